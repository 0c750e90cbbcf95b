//! Manifests: choosing among several, and refusing what is none.

use ocluster_obuilder::image::FetchError;
use ocluster_obuilder::image::registry::Digest;

use crate::image::{Image, OCI_MANIFEST, architecture, noise};
use crate::pull::Puller;
use crate::server::{End, Reply, Server};

fn image() -> Image {
    Image::new(&[noise(1, 1000)])
}

async fn serving(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |request| image.answer(request)).await
}

/// The failure that an image gives, in words.
async fn failure(image: &Image) -> String {
    let server = serving(image).await;
    Puller::new()
        .await
        .failure(&format!("{}/a", server.host()))
        .await
}

/// The failure that a document gives in a manifest's place.
async fn failure_of(kind: &str, document: &str) -> String {
    let mut image = image();
    image.tag(kind, document.as_bytes());
    failure(&image).await
}

#[tokio::test]
async fn a_list_leads_to_the_image_for_this_machine() {
    let plain = image();
    let listed = plain.clone().listed("linux", &architecture());
    let server = serving(&listed).await;
    let puller = Puller::new().await;
    let name = format!("{}/a", server.host());
    let manifest = puller.manifest(&name).await.expect("a manifest");
    assert_eq!(
        manifest.digest.as_ref(),
        Some(&listed.digest),
        "what the name stands for"
    );
    assert_eq!(manifest.layers[0].digest, plain.layers[0].bytes());
    let resolved = puller.source(&name).await.resolve(&puller.cancel).await;
    assert_eq!(resolved.expect("a digest").to_string(), listed.digest);
}

#[tokio::test]
async fn a_list_without_this_machine_says_what_there_is() {
    let error = failure(&image().listed("plan9", "pdp11")).await;
    assert!(error.contains("only for plan9/pdp11"), "{error}");
    assert!(error.starts_with("cannot pull 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_name_that_nobody_has_is_said_to_be_missing() {
    let server = serving(&image()).await;
    let puller = Puller::new().await;
    let name = format!("{}/a:missing", server.host());
    let error = puller.manifest(&name).await.expect_err("nothing");
    assert!(matches!(error, FetchError::Request(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot pull {name}: {} answered 404: no such image, or no permission to see it (no file of logins is configured)",
            server.host()
        )
    );
    let error = puller.source(&name).await.resolve(&puller.cancel).await;
    assert!(error.expect_err("nothing").to_string().contains("404"));
}

#[tokio::test]
async fn a_digest_in_the_name_is_compared() {
    let image = image();
    let server = serving(&image).await;
    let puller = Puller::new().await;
    let name = format!("{}/a@{}", server.host(), image.digest);
    assert!(puller.manifest(&name).await.is_ok());

    let wanted = Digest::of(b"something else").to_string();
    let mut lie = image.clone();
    lie.manifests
        .insert(wanted.clone(), image.manifests["latest"].clone());
    let server = Server::start(move |request| {
        let mut reply = lie.answer(request);
        reply
            .headers
            .retain(|(name, _)| name != "docker-content-digest");
        reply
    })
    .await;
    let error = puller
        .failure(&format!("{}/a@{wanted}", server.host()))
        .await;
    assert!(
        error.contains(&wanted) && error.contains(&image.digest),
        "{error}"
    );
}

#[tokio::test]
async fn a_manifest_other_than_its_header_says_is_refused() {
    let image = image();
    let server = Server::start(move |request| {
        let mut reply = image.answer(request);
        for (name, value) in &mut reply.headers {
            if name == "docker-content-digest" {
                *value = Digest::of(b"other").to_string();
            }
        }
        reply
    })
    .await;
    let error = Puller::new()
        .await
        .failure(&format!("{}/a", server.host()))
        .await;
    assert!(error.contains("with the digest"), "{error}");
}

#[tokio::test]
async fn a_configuration_other_than_the_manifest_says_is_refused() {
    let mut image = image();
    for (digest, bytes) in &mut image.blobs {
        if *digest != image.layers[0].to_string() {
            let first = bytes.first_mut().expect("a byte");
            *first = b' ';
        }
    }
    let error = failure(&image).await;
    assert!(error.contains("with the digest"), "{error}");
}

#[tokio::test]
async fn schema_1_is_refused_with_advice() {
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let error = failure_of(kind, r#"{"schemaVersion":1,"fsLayers":[]}"#).await;
    assert!(
        error.contains("schema 1") && error.contains("push the image again"),
        "{error}"
    );
}

#[tokio::test]
async fn garbage_is_refused_without_being_repeated() {
    for garbage in [
        "",
        "<html>hello</html>",
        "[1,2]",
        r#"{"layers":"hello"}"#,
        "\u{0}\u{1}",
    ] {
        let error = failure_of(OCI_MANIFEST, garbage).await;
        assert!(
            error.contains("is refused") && !error.contains("hello"),
            "{garbage}: {error}"
        );
    }
}

#[tokio::test]
async fn something_that_is_no_image_is_called_by_its_type() {
    let config = Digest::of(b"{}");
    let kind = "application/vnd.cncf.helm.config.v1+json";
    let document = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{kind}","digest":"{config}","size":2}},"layers":[]}}"#
    );
    let error = failure_of(OCI_MANIFEST, &document).await;
    assert!(error.contains(kind), "{error}");
}

#[tokio::test]
async fn a_huge_manifest_is_not_read() {
    let server = Server::start(|_| Reply::new(200, "{").ending(End::Endless)).await;
    let error = Puller::new()
        .await
        .failure(&format!("{}/a", server.host()))
        .await;
    assert!(error.contains("more than the 4194304 bytes"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_stalls_is_given_up() {
    let image = image();
    let server = Server::start(move |request| image.answer(request).ending(End::Stall(10))).await;
    let mut puller = Puller::impatient().await;
    puller.config.limits.attempts = 2;
    let error = puller.failure(&format!("{}/a", server.host())).await;
    assert!(error.contains("stopped sending for 400ms"), "{error}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_registry_without_head_is_asked_for_the_whole() {
    let image = image();
    let served = image.clone();
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => served.answer(request),
    })
    .await;
    let puller = Puller::new().await;
    let source = puller.source(&format!("{}/a", server.host())).await;
    let resolved = source.resolve(&puller.cancel).await.expect("a digest");
    assert_eq!(resolved.to_string(), image.digest);
}

#[tokio::test]
async fn a_name_with_a_digest_is_resolved_without_asking() {
    let puller = Puller::new().await;
    let digest = Digest::of(b"x");
    let source = puller.source(&format!("nobody.invalid/a@{digest}")).await;
    assert_eq!(
        source.resolve(&puller.cancel).await.expect("a digest"),
        digest
    );
}
