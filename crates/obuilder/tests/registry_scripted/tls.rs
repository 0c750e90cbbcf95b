//! TLS: whom we trust, and who may do without.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use crate::image::{Image, noise};
use crate::pull::Puller;
use crate::server::{Reply, Server};

/// A server's side of TLS, and the certificate (PEM) of the authority that vouches for it.
fn tls() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            key.serialize_der().try_into().expect("a key"),
        )
        .expect("a configuration");
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let bytes = noise(1, 100_000);
    let image = Image::new(std::slice::from_ref(&bytes));
    let (acceptor, authority) = tls();
    let server = Server::start_with(Some(acceptor), move |request| image.answer(request)).await;
    let mut puller = Puller::new().await;
    puller.config.limits.attempts = 1;
    let name = format!("{}/a", server.host());
    let error = puller.failure(&name).await;
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(server.seen().len(), 0, "nothing was said without trust");

    let file = puller.dir.path().join("ca.pem");
    std::fs::write(&file, authority).expect("a file");
    puller.config.ca_certificates = vec![file];
    assert_eq!(puller.pull(&name).await.expect("an image"), [bytes]);
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_told_at_once() {
    let mut puller = Puller::new().await;
    for content in [
        None,
        Some("hello"),
        Some("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"),
    ] {
        let file = puller.dir.path().join("ca.pem");
        if let Some(content) = content {
            std::fs::write(&file, content).expect("a file");
        }
        puller.config.ca_certificates = vec![file];
        let error = ocluster_obuilder::image::Registries::open(puller.config.clone()).await;
        let error = error
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("ca.pem"), "{content:?}: {error}");
    }
}

#[tokio::test]
async fn a_registry_that_is_not_on_loopback_gets_nothing_without_tls() {
    // Every other address of this machine is like any other machine's.
    let Some(address) = other_address() else {
        panic!("this machine has no address but loopback; one is needed");
    };
    let image = Image::new(&[noise(1, 1000)]);
    let server = Server::start_at(&address, move |request| image.answer(request)).await;
    let mut puller = Puller::new().await;
    puller.config.limits.attempts = 1;
    let name = format!("{address}:{}/a", server.port);
    let error = puller.failure(&name).await;
    assert!(error.contains("cannot connect"), "{error}");
    assert_eq!(server.seen().len(), 0);
    puller.config.plain_http = vec![address];
    puller.manifest(&name).await.expect("a manifest");
}

/// An address of this machine that is not loopback: the one from which it would speak with others. Nothing is sent.
fn other_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[tokio::test]
async fn tls_is_not_left_for_plain_http_by_a_redirect() {
    let plain = Server::start(|_| Reply::new(200, "{}")).await;
    let to = format!("http://{}/x", plain.host());
    let (acceptor, authority) = tls();
    let server = Server::start_with(Some(acceptor), move |_| {
        Reply::new(302, "").with("location", to.clone())
    })
    .await;
    let mut puller = Puller::new().await;
    let file = puller.dir.path().join("ca.pem");
    std::fs::write(&file, authority).expect("a file");
    puller.config.ca_certificates = vec![file];
    let error = puller.failure(&format!("{}/a", server.host())).await;
    assert!(error.contains("without TLS"), "{error}");
    assert_eq!(plain.seen().len(), 0);
}
