//! Mirrors: asked first, passed over when they fail, never believed more than the registry.

use ocluster_obuilder::image::ImageSource as _;

use crate::image::{Image, noise};
use crate::pull::Puller;
use crate::server::{End, Reply, Server};

const SIZE: usize = 200_000;

fn image() -> (Image, Vec<u8>) {
    let bytes = noise(1, SIZE);
    (Image::new(std::slice::from_ref(&bytes)), bytes)
}

async fn honest(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |request| image.answer(request)).await
}

/// One who pulls from `registry` by way of mirrors.
async fn through(registry: &Server, mirrors: &[&str]) -> (Puller, String) {
    let mut puller = Puller::new().await;
    let mirrors = format!("{}={}", registry.host(), mirrors.join(","));
    puller.config.mirrors = vec![mirrors.parse().expect("mirrors")];
    (puller, format!("{}/a/b", registry.host()))
}

#[tokio::test]
async fn a_mirror_spares_the_registry() {
    let (image, bytes) = image();
    let (registry, mirror) = (honest(&image).await, honest(&image).await);
    let url = format!("http://{}/proxy", mirror.host());
    let (puller, name) = through(&registry, &[&url]).await;
    assert_eq!(puller.pull(&name).await.expect("an image"), [bytes]);
    assert_eq!(registry.seen().len(), 0);
    assert!(
        mirror
            .seen()
            .iter()
            .all(|one| one.path.starts_with("/v2/proxy/a/b/"))
    );
}

#[tokio::test]
async fn mirrors_that_are_down_or_broken_are_told_and_passed_over() {
    let (image, bytes) = image();
    let registry = honest(&image).await;
    let broken = Server::start(|_| Reply::new(500, "")).await;
    let down = Server::start(|_| Reply::new(200, "")).await.host();
    let urls = [
        format!("http://{down}"),
        format!("http://{}", broken.host()),
    ];
    let (puller, name) = through(&registry, &[&urls[0], &urls[1]]).await;
    assert_eq!(puller.pull(&name).await.expect("an image"), [bytes]);
    let told = puller.told();
    assert!(
        told.contains(&format!("passing over the mirror {}", urls[0])),
        "{told}"
    );
    assert!(told.contains("answered 500"), "{told}");
    assert_eq!(broken.seen().len(), 2, "not asked again for the layers");

    let source = puller.source(&name).await;
    source.resolve(&puller.cancel).await.expect("a digest");
    source.manifest(&puller.cancel).await.expect("a manifest");
    assert_eq!(broken.seen().len(), 4, "not asked again for the manifest");
}

#[tokio::test]
async fn a_mirror_that_lies_about_a_layer_is_passed_over() {
    let (image, bytes) = image();
    let registry = honest(&image).await;
    let served = image.clone();
    let layer = image.layers[0].hex();
    let liar = Server::start(move |request| match request.path.contains(&layer) {
        true => Reply::new(200, noise(6, SIZE)),
        false => served.answer(request),
    })
    .await;
    let (puller, name) = through(&registry, &[&format!("http://{}", liar.host())]).await;
    assert_eq!(puller.pull(&name).await.expect("an image"), [bytes]);
    let told = puller.told();
    assert!(
        told.contains(&liar.host()) && told.contains("whose digest is"),
        "{told}"
    );
}

#[tokio::test]
async fn the_registry_goes_on_where_a_mirror_was_cut() {
    let (image, bytes) = image();
    let registry = honest(&image).await;
    let served = image.clone();
    let layer = image.layers[0].hex();
    let mirror = Server::start(move |request| {
        let reply = served.answer(request);
        match (request.path.contains(&layer), request.from()) {
            (true, None) => reply.ending(End::Cut(150_000)),
            (true, Some(_)) => Reply::new(404, ""),
            _ => reply,
        }
    })
    .await;
    let (puller, name) = through(&registry, &[&format!("http://{}", mirror.host())]).await;
    assert_eq!(puller.pull(&name).await.expect("an image"), [bytes]);
    let asked = registry.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].from(), Some(150_000));
}

#[tokio::test]
async fn when_nobody_has_it_all_who_were_asked_are_named() {
    let (image, _) = image();
    let registry = honest(&image).await;
    let mirror = Server::start(|_| Reply::new(403, "")).await;
    let (puller, name) = through(&registry, &[&format!("http://{}", mirror.host())]).await;
    let error = puller.failure(&format!("{name}:missing")).await;
    assert!(error.contains("answered 404"), "{error}");
    assert!(
        error.contains(&format!("(before: the mirror http://{}", mirror.host())),
        "{error}"
    );
}
