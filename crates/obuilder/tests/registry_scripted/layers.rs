//! Layers: cuts, stalls, lies about what comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ocluster_obuilder::image::FetchError;

use crate::image::{Image, noise};
use crate::pull::{Puller, until};
use crate::server::{End, Reply, Request, Server};

const SIZE: usize = 400_000;
/// More than the kernel keeps of what nobody reads, in bytes.
const MOST_ON_THE_WAY: u64 = 64 << 20;

fn one() -> (Image, Vec<u8>) {
    let bytes = noise(1, SIZE);
    (Image::new(std::slice::from_ref(&bytes)), bytes)
}

/// A registry that answers the `n`th request for the layer with `change`.
async fn serving(
    image: &Image,
    change: impl Fn(usize, &Request, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let image = image.clone();
    let layer = image.layers[0].to_string();
    let count = AtomicUsize::new(0);
    Server::start(move |request| {
        let reply = image.answer(request);
        if request.path.ends_with(&layer) {
            change(count.fetch_add(1, Ordering::Relaxed), request, reply)
        } else {
            reply
        }
    })
    .await
}

#[tokio::test]
async fn an_image_comes_as_it_is_and_leaves_no_files() {
    let layers = [noise(1, SIZE), noise(2, 10), Vec::new()];
    let image = Image::new(&layers);
    let served = image.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let puller = Puller::new().await;
    let name = format!("{}/a/b", server.host());
    let manifest = puller.manifest(&name).await.expect("a manifest");
    assert_eq!(manifest.digest, Some(image.digest));
    assert_eq!(
        manifest.env,
        [("PATH", "/bin"), ("A", "b=c")].map(|(n, v)| (n.into(), v.into()))
    );
    assert_eq!(puller.pull(&name).await.expect("the layers"), layers);
    assert_eq!(puller.left(), [""; 0]);
    let told = puller.told();
    assert!(told.contains(": 390.6 KiB downloaded"), "{told}");
}

#[tokio::test]
async fn a_cut_costs_only_what_was_missing() {
    let (image, bytes) = one();
    let server = serving(&image, |n, _, reply| match n {
        0 => reply.ending(End::Cut(100_000)),
        1 => reply.ending(End::Cut(150_000)),
        _ => reply,
    })
    .await;
    let puller = Puller::new().await;
    let pulled = puller.pull(&format!("{}/a", server.host())).await;
    assert_eq!(pulled.expect("the layer"), [bytes]);
    let asked = server.seen_of(&image.layers[0].to_string());
    let from: Vec<_> = asked.iter().map(Request::from).collect();
    assert_eq!(from, [None, Some(100_000), Some(250_000)]);
    let told = puller.told();
    assert!(told.contains("going on from 97.6 KiB"), "{told}");
}

#[tokio::test]
async fn a_server_that_always_cuts_early_is_given_up() {
    let (image, _) = one();
    let server = serving(&image, |_, _, reply| reply.ending(End::Cut(10))).await;
    let puller = Puller::new().await;
    let error = puller.pull(&format!("{}/a", server.host())).await;
    let error = error.expect_err("no layer");
    assert!(matches!(error, FetchError::Source(_)), "{error}");
    let error = error.to_string();
    let layer = format!("layer {}", image.layers[0]);
    assert!(
        error.contains(&layer) && error.contains(&server.host()),
        "{error}"
    );
    assert!(error.contains("5 times in a row"), "{error}");
    assert_eq!(server.seen_of(&image.layers[0].to_string()).len(), 5);
    // What came is kept for the next time.
    assert_eq!(puller.left().len(), 1);
}

#[tokio::test]
async fn a_stall_ends_the_attempt_and_the_next_goes_on() {
    let (image, bytes) = one();
    let server = serving(&image, |n, _, reply| match n {
        0 => reply.ending(End::Stall(100_000)),
        _ => reply,
    })
    .await;
    let puller = Puller::impatient().await;
    let pulled = puller.pull(&format!("{}/a", server.host())).await;
    assert_eq!(pulled.expect("the layer"), [bytes]);
    assert!(
        puller.told().contains("stopped sending"),
        "{}",
        puller.told()
    );
    let asked = server.seen_of(&image.layers[0].to_string());
    assert_eq!(asked[1].from(), Some(100_000));
}

#[tokio::test]
async fn a_server_that_ignores_the_range_is_heard_from_the_start() {
    let (image, bytes) = one();
    let whole = bytes.clone();
    let server = serving(&image, move |n, _, reply| match n {
        0 => reply.ending(End::Cut(100_000)),
        _ => Reply::new(200, whole.clone()),
    })
    .await;
    let puller = Puller::new().await;
    let pulled = puller.pull(&format!("{}/a", server.host())).await;
    assert_eq!(pulled.expect("the layer"), [bytes]);
    let asked = server.seen_of(&image.layers[0].to_string());
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    let (image, bytes) = one();
    let server = serving(&image, move |n, _, reply| match n {
        0 => reply.ending(End::Cut(100_000)),
        _ => Reply::new(206, &bytes[50_000..])
            .with("content-range", format!("bytes 50000-{}/{SIZE}", SIZE - 1)),
    })
    .await;
    let puller = Puller::new().await;
    let error = puller.pull(&format!("{}/a", server.host())).await;
    let error = error.expect_err("no layer").to_string();
    assert!(
        error.contains("the part from 50000 instead of 100000"),
        "{error}"
    );
}

#[tokio::test]
async fn a_process_that_starts_again_goes_on_where_the_last_was() {
    let (image, bytes) = one();
    let server = serving(&image, |n, _, reply| match n {
        0 => reply.ending(End::Stall(200_000)),
        _ => reply,
    })
    .await;
    let puller = Puller::new().await;
    let name = format!("{}/a", server.host());
    let source = puller.source(&name).await;
    let partial = puller
        .blobs()
        .join(format!("{}.partial", image.layers[0].hex()));
    tokio::select! {
        _ = puller.blob(&source, image.layers[0], SIZE) => panic!("it stalls"),
        () = crate::pull::until("the first part", || {
            partial.metadata().is_ok_and(|meta| meta.len() == 200_000)
        }) => {}
    }
    drop(source);
    // Everything is new but the directory.
    let source = puller.source(&name).await;
    let again = puller.blob(&source, image.layers[0], SIZE).await;
    assert_eq!(again.expect("the layer"), bytes);
    let asked = server.seen_of(&image.layers[0].to_string());
    assert_eq!(asked[1].from(), Some(200_000));
}

#[tokio::test]
async fn what_a_bad_disk_left_is_found_out_and_fetched_again() {
    let (image, bytes) = one();
    let server = serving(&image, |_, _, reply| reply).await;
    let puller = Puller::new().await;
    std::fs::create_dir_all(puller.blobs()).expect("a directory");
    let partial = format!("{}.partial", image.layers[0].hex());
    std::fs::write(puller.blobs().join(partial), noise(9, 100_000)).expect("a file");
    let pulled = puller.pull(&format!("{}/a", server.host())).await;
    assert_eq!(pulled.expect("the layer"), [bytes]);
    assert!(
        puller.told().contains("starting again"),
        "{}",
        puller.told()
    );
}

#[tokio::test]
async fn bytes_with_another_digest_are_removed_and_their_sender_named() {
    let (image, _) = one();
    let server = serving(&image, |_, _, _| Reply::new(200, noise(7, SIZE))).await;
    let puller = Puller::new().await;
    let error = puller.pull(&format!("{}/a", server.host())).await;
    let error = error.expect_err("no layer").to_string();
    let layer = format!("layer {}", image.layers[0]);
    assert!(
        error.contains(&layer) && error.contains(&server.host()),
        "{error}"
    );
    assert!(error.contains("whose digest is sha256:"), "{error}");
    assert_eq!(puller.left(), [""; 0]);
    assert_eq!(server.seen_of(&image.layers[0].to_string()).len(), 1);
}

#[tokio::test]
async fn a_length_other_than_the_manifests_is_refused_before_anything_is_read() {
    let (image, bytes) = one();
    let longer = [bytes, vec![0; 5]].concat();
    let server = serving(&image, move |_, _, _| Reply::new(200, longer.clone())).await;
    let puller = Puller::new().await;
    let error = puller.pull(&format!("{}/a", server.host())).await;
    let error = error.expect_err("no layer").to_string();
    assert!(
        error.contains("has 400005 bytes where the manifest says 400000"),
        "{error}"
    );
}

#[tokio::test]
async fn an_endless_body_is_cut_where_the_layer_should_end() {
    let (image, bytes) = one();
    let server = serving(&image, move |_, _, _| {
        Reply::new(200, bytes.clone()).ending(End::Endless)
    })
    .await;
    let puller = Puller::new().await;
    let error = puller.pull(&format!("{}/a", server.host())).await;
    let error = error.expect_err("no layer").to_string();
    assert!(error.contains("more than the 400000 bytes"), "{error}");
    assert!(server.flood() < MOST_ON_THE_WAY, "{}", server.flood());
}

#[tokio::test]
async fn a_registry_that_asks_for_patience_gets_it_within_bounds() {
    let (image, bytes) = one();
    let server = serving(&image, |n, _, reply| match n {
        0 => Reply::new(429, "").with("retry-after", "1"),
        1 => Reply::new(503, ""),
        _ => reply,
    })
    .await;
    let puller = Puller::new().await;
    let start = std::time::Instant::now();
    let pulled = puller.pull(&format!("{}/a", server.host())).await;
    assert_eq!(pulled.expect("the layer"), [bytes]);
    assert!(start.elapsed() >= Duration::from_secs(1));

    let (image, _) = one();
    let server = serving(&image, |_, _, _| {
        Reply::new(429, "").with("retry-after", "86400")
    })
    .await;
    let error = puller.pull(&format!("{}/a", server.host())).await;
    let error = error.expect_err("too long").to_string();
    assert!(
        error.contains("429") && error.contains("wait for 86400 s"),
        "{error}"
    );
}

#[tokio::test]
async fn cancelling_a_pull_that_hangs_ends_it_and_keeps_what_came() {
    let (image, _) = one();
    let server = serving(&image, |_, _, reply| reply.ending(End::Stall(100_000))).await;
    let puller = Puller::new().await;
    let name = format!("{}/a", server.host());
    let partial = puller
        .blobs()
        .join(format!("{}.partial", image.layers[0].hex()));
    let (result, ()) = tokio::join!(puller.pull(&name), async {
        crate::pull::until("the first part", || {
            partial.metadata().is_ok_and(|meta| meta.len() == 100_000)
        })
        .await;
        puller.cancel.cancel();
    });
    assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
    assert!(partial.exists());
}

#[tokio::test]
async fn a_trickle_ends_though_it_never_stands_still() {
    let image = Image::new(&[noise(1, SIZE)]);
    let server = Server::start({
        let image = image.clone();
        move |request| image.answer(request).ending(End::Trickle(2048))
    })
    .await;
    let mut puller = Puller::new().await;
    puller.config.limits.least_rate = 1 << 20;
    puller.config.limits.rate_time = Duration::from_secs(1);
    puller.config.limits.attempts = 2;
    let source = puller.source(&format!("{}/a", server.host())).await;
    let error = puller.blob(&source, image.layers[0], SIZE).await;
    let error = error.expect_err("too slow").to_string();
    assert!(
        error.contains("sent less than 1048576 bytes in 1s, 2 times in a row"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_that_drops_layers_again_and_again_fills_no_disk() {
    let image = Image::new(&[1, 2, 3, 4].map(|seed| noise(seed, SIZE)));
    let server = Server::start({
        let image = image.clone();
        move |request| image.answer(request).ending(End::Cut(200_000))
    })
    .await;
    let mut puller = Puller::new().await;
    puller.config.limits.attempts = 1;
    puller.config.limits.partials = 500_000;
    let source = puller.source(&format!("{}/a", server.host())).await;
    for layer in &image.layers {
        puller.blob(&source, *layer, SIZE).await.expect_err("a cut");
    }
    until("two are removed", || puller.left().len() == 2).await;
    let newest = format!("{}.partial", image.layers[3].hex());
    assert!(puller.left().contains(&newest));
}
