//! Several who want the same layer at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::image::{Image, noise};
use crate::pull::{Puller, until};
use crate::server::{End, Reply, Server};

const SIZE: usize = 300_000;

#[tokio::test]
async fn two_pulls_of_one_layer_share_a_download() {
    let bytes = noise(3, SIZE);
    let image = Image::new(std::slice::from_ref(&bytes));
    let served = image.clone();
    let layer = image.layers[0];
    let server = Server::start(move |request| {
        let reply = served.answer(request);
        match request.path.contains(&layer.hex()) && request.from().is_none() {
            // Slow enough for the second to come.
            true => reply.ending(End::Cut(100_000)),
            false => reply,
        }
    })
    .await;
    let mut puller = Puller::new().await;
    puller.config.limits.retry_delay = Duration::from_millis(300);
    let registries = puller.registries().await;
    let image_at = |name: &str| {
        let name = format!("{}/{name}", server.host());
        registries.image(&name.parse().expect("a name"))
    };
    let (one, two) = (image_at("one"), image_at("two"));
    let (first, second) = tokio::join!(
        puller.blob(&one, layer, SIZE),
        puller.blob(&two, layer, SIZE)
    );
    assert_eq!(first.expect("a layer"), bytes);
    assert_eq!(second.expect("a layer"), bytes);
    assert_eq!(
        server.seen_of(&layer.hex()).len(),
        2,
        "one download, cut once"
    );
    until("the removal", || puller.left().is_empty()).await;
}

#[tokio::test]
async fn who_shares_a_download_that_fails_for_another_asks_for_himself() {
    let bytes = noise(4, SIZE);
    let image = Image::new(std::slice::from_ref(&bytes));
    let layer = image.layers[0];
    let served = image.clone();
    let server = Server::start(move |request| {
        if request.path.contains("/forbidden/") {
            Reply::new(503, "")
        } else {
            served.answer(request)
        }
    })
    .await;
    let mut puller = Puller::new().await;
    puller.config.limits.retry_delay = Duration::from_millis(50);
    let registries = puller.registries().await;
    let image_at = |name: &str| {
        let name = format!("{}/{name}/x", server.host());
        registries.image(&name.parse().expect("a name"))
    };
    let (bad, good) = (image_at("forbidden"), image_at("good"));
    let (first, second) = tokio::join!(
        puller.blob(&bad, layer, SIZE),
        puller.blob(&good, layer, SIZE)
    );
    assert!(
        first
            .expect_err("no permission")
            .to_string()
            .contains("503")
    );
    assert_eq!(second.expect("a layer"), bytes);
}

#[tokio::test]
async fn one_who_goes_away_does_not_take_the_download_with_him() {
    let bytes = noise(5, SIZE);
    let image = Image::new(std::slice::from_ref(&bytes));
    let layer = image.layers[0];
    let served = image.clone();
    let server = Server::start(move |request| match request.from() {
        None if request.path.contains(&layer.hex()) => {
            served.answer(request).ending(End::Cut(100_000))
        }
        _ => served.answer(request),
    })
    .await;
    let mut puller = Puller::new().await;
    puller.config.limits.retry_delay = Duration::from_millis(300);
    let registries = puller.registries().await;
    let name = format!("{}/a", server.host()).parse().expect("a name");
    let (one, two) = (registries.image(&name), registries.image(&name));
    let partial = puller.blobs().join(format!("{}.partial", layer.hex()));
    let first = async {
        tokio::select! {
            _ = puller.blob(&one, layer, SIZE) => panic!("it was cut"),
            () = until("a part", || partial.metadata().is_ok_and(|meta| meta.len() > 0)) => {}
        }
    };
    let ((), second) = tokio::join!(first, puller.blob(&two, layer, SIZE));
    assert_eq!(second.expect("a layer"), bytes);
    assert_eq!(server.seen_of(&layer.hex()).len(), 2);
}

#[tokio::test]
async fn only_so_many_layers_come_at_once() {
    let layers: Vec<_> = (0..6).map(|seed| noise(seed, 50_000)).collect();
    let image = Image::new(&layers);
    let served = image.clone();
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let server = Server::start(move |request| {
        if request.path.contains("/blobs/") && request.from().is_none() {
            count.fetch_add(1, Ordering::SeqCst);
            return served.answer(request).ending(End::Stall(20_000));
        }
        served.answer(request)
    })
    .await;
    let mut puller = Puller::new().await;
    puller.config.limits.downloads = 2;
    let name = format!("{}/a", server.host());
    let source = puller.source(&name).await;
    let all = futures::future::join_all(
        image
            .layers
            .iter()
            .map(|layer| puller.blob(&source, *layer, 50_000)),
    );
    tokio::select! {
        _ = all => panic!("they stall"),
        () = async {
            until("two downloads", || running.load(Ordering::SeqCst) == 2).await;
            // A third would be there by the time both have brought what they bring.
            until("both parts", || {
                let listed = std::fs::read_dir(puller.blobs()).expect("a directory");
                let lengths = listed.map(|entry| entry.expect("an entry").metadata().map_or(0, |meta| meta.len()));
                lengths.filter(|length| *length == 20_000).count() == 2
            })
            .await;
        } => {}
    }
    assert_eq!(running.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_slow_registry_holds_up_no_download_from_another() {
    let bytes = noise(6, SIZE);
    let image = Image::new(std::slice::from_ref(&bytes));
    let layer = image.layers[0];
    let slow = Server::start({
        let served = image.clone();
        move |request| served.answer(request).ending(End::Stall(100_000))
    })
    .await;
    let good = Server::start(move |request| image.answer(request)).await;
    let mut puller = Puller::new().await;
    puller.config.limits.stall = Duration::from_secs(600);
    puller.config.limits.downloads = 1;
    let registries = puller.registries().await;
    let image_at = |server: &Server| {
        let name = format!("{}/x", server.host());
        registries.image(&name.parse().expect("a name"))
    };
    let (bad, other) = (image_at(&slow), image_at(&good));
    let fetched = tokio::select! {
        _ = puller.blob(&bad, layer, SIZE) => panic!("it stalls"),
        fetched = async {
            until("the slow download", || !slow.seen().is_empty()).await;
            let fetching = puller.blob(&other, layer, SIZE);
            tokio::time::timeout(Duration::from_secs(60), fetching).await.expect("an end")
        } => fetched,
    };
    assert_eq!(fetched.expect("a layer"), bytes);
    // The part of the slow one stays, and only that.
    until("the removal", || {
        puller.left() == [format!("{}.partial", layer.hex())]
    })
    .await;
}
