//! Tokens, passwords, and who gets to see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ocluster_obuilder::image::FetchError;

use crate::image::{Image, noise};
use crate::pull::Puller;
use crate::server::{Reply, Request, Server};

/// base64 of `me:pass word`.
const AUTH: &str = "bWU6cGFzcyB3b3Jk";

fn image() -> Image {
    Image::new(&[noise(1, 50_000)])
}

fn logins(host: &str) -> String {
    format!(r#"{{"auths":{{"{host}":{{"auth":"{AUTH}"}}}}}}"#)
}

fn wants_token(request: &Request) -> Reply {
    let host = request.header("host").expect("a host");
    Reply::new(401, "{}").with(
        "www-authenticate",
        format!(r#"Bearer realm="http://{host}/token?x=1",service="the service",scope="whatever""#),
    )
}

/// A registry that gives tokens `t1`, `t2`, ... and takes only those that `takes` allows.
async fn with_tokens(
    takes: impl Fn(&str) -> bool + Send + Sync + 'static,
    gives: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
) -> Server {
    let (image, count) = (image(), AtomicUsize::new(0));
    Server::start(move |request| {
        if request.path.starts_with("/token") {
            return gives(request, count.fetch_add(1, Ordering::SeqCst) + 1);
        }
        match request.header("authorization") {
            Some(header) if takes(header) => image.answer(request),
            _ => wants_token(request),
        }
    })
    .await
}

fn token(number: usize) -> Reply {
    Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_for_everything() {
    let server = with_tokens(|header| header == "Bearer t1", |_, n| token(n)).await;
    let puller = Puller::new().await;
    let name = format!("{}/a/b", server.host());
    puller.pull(&name).await.expect("an image");
    let asked = server.seen_of("/token");
    assert_eq!(asked.len(), 1);
    let path = &asked[0].path;
    assert!(path.starts_with("/token?x=1&"), "{path}");
    assert!(path.contains("service=the+service"), "{path}");
    assert!(path.contains("scope=repository%3Aa%2Fb%3Apull"), "{path}");
    assert_eq!(asked[0].header("authorization"), None, "no login");
    // One without a token to learn where tokens are, then manifest, configuration, layer.
    assert_eq!(server.seen_of("/v2/a/b/").len(), 4);
}

#[tokio::test]
async fn a_login_is_shown_to_the_token_endpoint_only() {
    let server = with_tokens(
        |header| header == "Bearer t1",
        |request, n| match request.header("authorization") {
            Some(header) if header == format!("Basic {AUTH}") => token(n),
            _ => Reply::new(401, ""),
        },
    )
    .await;
    let mut puller = Puller::new().await;
    puller.logins(&logins(&server.host()));
    let name = format!("{}/a", server.host());
    puller.pull(&name).await.expect("an image");
    let others = server.seen_of("/v2/");
    let headers = others.iter().filter_map(|one| one.header("authorization"));
    assert!(headers.clone().count() > 0);
    assert!(headers.into_iter().all(|header| !header.contains(AUTH)));
}

#[tokio::test]
async fn an_identity_token_is_changed_for_others() {
    let server = with_tokens(
        |header| header == "Bearer fresh",
        |request, _| {
            let is_right = request.method == "POST"
                && request.body.contains("grant_type=refresh_token")
                && request.body.contains("refresh_token=identity")
                && request.body.contains("scope=repository%3Aa%3Apull");
            match is_right {
                true => Reply::new(200, r#"{"access_token":"fresh"}"#),
                false => Reply::new(400, ""),
            }
        },
    )
    .await;
    let mut puller = Puller::new().await;
    let host = server.host();
    puller.logins(&format!(
        r#"{{"auths":{{"{host}":{{"auth":"{AUTH}","identitytoken":"identity"}}}}}}"#
    ));
    puller.pull(&format!("{host}/a")).await.expect("an image");
}

#[tokio::test]
async fn a_token_that_expires_is_renewed() {
    // The first token is good for the manifest's requests, and then no longer.
    let left = Arc::new(AtomicUsize::new(2));
    let server = with_tokens(
        move |header| match header {
            "Bearer t1" => left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok(),
            "Bearer t2" => true,
            _ => false,
        },
        |_, n| token(n),
    )
    .await;
    let puller = Puller::new().await;
    let name = format!("{}/a", server.host());
    puller.pull(&name).await.expect("an image");
    assert_eq!(server.seen_of("/token").len(), 2);
}

#[tokio::test]
async fn a_registry_that_takes_no_token_is_asked_twice_and_no_more() {
    let server = with_tokens(|_| false, |_, n| token(n)).await;
    let puller = Puller::new().await;
    let name = format!("{}/a", server.host());
    let error = puller.manifest(&name).await.expect_err("no permission");
    assert!(matches!(error, FetchError::Request(_)));
    let error = error.to_string();
    assert!(error.contains("answered 401: no permission"), "{error}");
    assert_eq!(server.seen_of("/v2/a/").len(), 2);
}

#[tokio::test]
async fn a_password_is_sent_where_it_is_asked_for() {
    let image = image();
    let server = Server::start(move |request| {
        if request.header("authorization") == Some(&format!("Basic {AUTH}")) {
            image.answer(request)
        } else {
            Reply::new(401, "").with("www-authenticate", r#"Basic realm="here""#)
        }
    })
    .await;
    let mut puller = Puller::new().await;
    let name = format!("{}/a", server.host());
    let error = puller.failure(&name).await;
    assert!(
        error.contains("wants a login, and there is none"),
        "{error}"
    );
    // Logins are read anew for each pull.
    puller.logins(&logins(&server.host()));
    puller.pull(&name).await.expect("an image");
    puller.logins(&logins(&server.host()).replace(AUTH, "bWU6d3Jvbmcgb25l"));
    let error = puller.failure(&name).await;
    assert!(error.contains("401"), "{error}");
    for secret in ["pass word", AUTH, "wrong one", "bWU6d3Jvbmcgb25l"] {
        assert!(!error.contains(secret) && !puller.told().contains(secret));
        let registries = puller.registries().await;
        assert!(!format!("{registries:?}").contains(secret));
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_does_not_take_the_authorization_along() {
    let image = image();
    let blobs = image.clone();
    let storage = Server::start(move |request| blobs.answer(request)).await;
    let at = storage.host();
    let server = Server::start(move |request| {
        if request.header("authorization") != Some(&format!("Basic {AUTH}")) {
            return Reply::new(401, "").with("www-authenticate", "Basic");
        }
        match request.path.contains("/blobs/") {
            true => Reply::new(307, "").with("location", format!("http://{at}{}", request.path)),
            false => image.answer(request),
        }
    })
    .await;
    let mut puller = Puller::new().await;
    puller.logins(&logins(&server.host()));
    let name = format!("{}/a", server.host());
    puller.pull(&name).await.expect("an image");
    let redirected = storage.seen();
    assert_eq!(redirected.len(), 2, "configuration and layer");
    assert!(
        redirected
            .iter()
            .all(|one| one.header("authorization").is_none())
    );
}

#[tokio::test]
async fn the_query_of_a_redirect_is_a_secret_too() {
    let image = image();
    let server = Server::start(move |request| {
        match (
            request.path.contains("/blobs/"),
            request.path.contains("signature"),
        ) {
            (true, false) => {
                Reply::new(307, "").with("location", format!("{}?signature=secret", request.path))
            }
            (true, true) => Reply::new(403, "signature=secret"),
            _ => image.answer(request),
        }
    })
    .await;
    let puller = Puller::new().await;
    let error = puller.failure(&format!("{}/a", server.host())).await;
    assert!(
        error.contains("403") && !error.contains("secret"),
        "{error}"
    );
    assert!(!puller.told().contains("secret"));
}

#[tokio::test]
async fn redirects_in_a_circle_and_to_plain_http_elsewhere_end() {
    let server =
        Server::start(|request| Reply::new(302, "").with("location", request.path.clone())).await;
    let puller = Puller::new().await;
    let error = puller.failure(&format!("{}/a", server.host())).await;
    assert!(error.contains("more than 6 times"), "{error}");

    let server =
        Server::start(|_| Reply::new(302, "").with("location", "http://192.0.2.1/x")).await;
    let error = puller.failure(&format!("{}/a", server.host())).await;
    assert!(error.contains("192.0.2.1 without TLS"), "{error}");

    let server = Server::start(|_| {
        Reply::new(401, "").with("www-authenticate", r#"Bearer realm="http://192.0.2.1/t""#)
    })
    .await;
    let error = puller.failure(&format!("{}/a", server.host())).await;
    assert!(
        error.contains("for tokens to 192.0.2.1 without TLS"),
        "{error}"
    );
}

#[tokio::test]
async fn an_images_name_reaches_no_service_of_this_machine_that_is_not_named() {
    let server = Server::start(|_| Reply::new(200, "{}")).await;
    let mut puller = Puller::new().await;
    puller.config.loopback = false;
    for host in [
        server.host(),
        format!("localhost:{}", server.port),
        format!("127.1:{}", server.port),
        format!("0.0.0.0:{}", server.port),
        // Nobody listens there, which is not to be told apart.
        "127.0.0.1:9".to_owned(),
    ] {
        let error = puller.failure(&format!("{host}/a")).await;
        assert!(error.contains("this machine itself"), "{host}: {error}");
    }
    assert_eq!(server.seen().len(), 0);
    puller.config.plain_http = vec![server.host()];
    puller.failure(&format!("{}/a", server.host())).await;
    assert!(!server.seen().is_empty(), "it is named now");
}

#[tokio::test]
async fn a_redirect_reaches_no_service_of_this_machine_that_is_not_named() {
    let inner = Server::start(|_| Reply::new(200, "{}")).await;
    for to in [
        format!("http://{}/admin", inner.host()),
        format!("https://{}/admin", inner.host()),
        format!("http://localhost:{}/admin", inner.port),
    ] {
        let there = to.clone();
        let redirecting =
            Server::start(move |_| Reply::new(307, "").with("location", there.clone())).await;
        let there = to.clone();
        let asking = Server::start(move |_| {
            let challenge = format!("Bearer realm=\"{there}\"");
            Reply::new(401, "").with("www-authenticate", challenge)
        })
        .await;
        for server in [redirecting, asking] {
            let mut puller = Puller::new().await;
            puller.config.loopback = false;
            puller.config.plain_http = vec![server.host()];
            let error = puller.failure(&format!("{}/a", server.host())).await;
            assert!(error.contains("this machine itself"), "{to}: {error}");
        }
    }
    assert_eq!(inner.seen().len(), 0);
}
