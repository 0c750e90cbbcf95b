//! Real sockets and real TLS: who may connect, and what the others are told.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::capability::Client;
use ocluster_vat::{
    Address, ConnectError, DialOptions, Digest, Limits, ListenError, Listener, Location, SecretKey,
    Stats, SturdyRef, Vat,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

async fn refused(address: &Address) -> ConnectError {
    let options = DialOptions {
        timeout: Duration::from_secs(5),
        ..DialOptions::default()
    };
    let vat = Vat::client_only(Stats::new());
    let connected = vat.connect(address, &options, &mut |_| {}).await;
    connected.expect_err("this must not connect")
}

fn fixture(name: &str) -> String {
    format!(
        "{}/tests/vat/fixtures/keys/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn a_server_with_any_kind_of_key_can_be_used() {
    vat_test(async {
        for name in [
            "rsa-pkcs8",
            "rsa-pkcs1",
            "p256-sec1",
            "p384-pkcs8",
            "ed25519-pkcs8",
        ] {
            let pem = std::fs::read(fixture(&format!("{name}.pem"))).unwrap();
            let key = SecretKey::from_pem(&pem).unwrap();
            let known = Rc::new(Known::with(&[b"a"]));
            let here = Location::tcp("127.0.0.1", 0);
            let server = serve_at(&here, Some(key), known, Limits::default());
            let object: Client = server.dial().await.bootstrap(&id("a"));
            assert_eq!(echo(&object, name).await.unwrap(), format!("a:{name}"));
        }
    });
}

#[test]
fn another_key_at_the_address_is_refused() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let expected = Digest::Sha256([9; 32]);
        let address = Address::new(server.address.location.clone(), expected);
        let error = refused(&address).await;
        let ConnectError::WrongFingerprint { got, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*got, server.address.digest);
        assert!(error.to_string().contains("get a new .cap file"), "{error}");
        assert_eq!(server.stats.connections(), 0);
    });
}

#[test]
fn tls_and_plain_text_do_not_mix() {
    vat_test(async {
        let tls = serve_tls(Known::with(&[b"a"]), Limits::default());
        let insecure = Address::new(tls.address.location.clone(), Digest::Insecure);
        let connection = dial(&insecure).await;
        let object: Client = connection.bootstrap(&id("a"));
        assert!(echo(&object, "x").await.is_err());
        let reason = connection.closed().await;
        assert!(reason.as_str().contains("speaks TLS"), "{reason}");

        let plain = serve_plain(Known::with(&[b"a"]), Limits::default());
        let secure = Address::new(plain.address.location.clone(), tls.address.digest);
        let error = refused(&secure).await;
        assert!(matches!(error, ConnectError::NotTls { .. }), "{error}");

        // Neither server has suffered.
        for server in [&tls, &plain] {
            let object: Client = server.dial().await.bootstrap(&id("a"));
            assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
        }
    });
}

#[test]
fn garbage_is_refused_and_nobody_else_notices() {
    vat_test(async {
        for server in [
            serve_tls(Known::with(&[b"a"]), Limits::default()),
            serve_plain(Known::with(&[b"a"]), Limits::default()),
        ] {
            let object: Client = server.dial().await.bootstrap(&id("a"));
            echo(&object, "before").await.unwrap();
            for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5000], &[0; 5000]] {
                let mut peer = TcpStream::connect(("127.0.0.1", server.port()))
                    .await
                    .unwrap();
                peer.write_all(garbage).await.unwrap();
                peer.shutdown().await.unwrap();
                let mut answer = Vec::new();
                // It ends, with a reset or in order.
                let _ = peer.read_to_end(&mut answer).await;
            }
            assert_eq!(echo(&object, "after").await.unwrap(), "a:after");
        }
    });
}

/// Runs `openssl s_client` against a server and gives what it printed.
async fn s_client(port: u16, arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    let run = move || {
        let mut child = Command::new("openssl")
            .args([
                "s_client",
                "-ign_eof",
                "-connect",
                &format!("127.0.0.1:{port}"),
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the openssl program is needed for this test");
        let _ = child.stdin.take().unwrap().write_all(&[0xff; 64]);
        let output = child.wait_with_output().unwrap();
        let (out, err) = (output.stdout, output.stderr);
        String::from_utf8_lossy(&[out, err].concat()).into_owned()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[test]
fn a_client_without_certificate_is_rejected() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        for version in ["-tls1_3", "-tls1_2"] {
            let printed = s_client(server.port(), &[version]).await;
            assert!(printed.contains("alert"), "{printed}");
        }
        assert_eq!(server.stats.inbound_received(), 0);
        let object: Client = server.dial().await.bootstrap(&id("a"));
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
    });
}

#[test]
fn the_certificate_is_the_one_ocaml_makes() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let printed = s_client(server.port(), &["-tls1_2", "-no_ticket"]).await;
        assert!(printed.contains("CN = capnp"), "{printed}");
        assert!(
            printed.contains("No client certificate CA names sent"),
            "{printed}"
        );
        assert!(printed.contains("NotAfter: Dec 31"), "{printed}");
    });
}

#[test]
fn a_client_with_any_certificate_is_let_in_with_either_version() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        for version in ["-tls1_3", "-tls1_2"] {
            for kind in ["p256", "rsa"] {
                let certificate = fixture(&format!("{kind}-certificate.pem"));
                let key = fixture(&format!("{kind}-pkcs8.pem"));
                let arguments = [version, "-cert", &certificate, "-key", &key];
                let printed = s_client(server.port(), &arguments).await;
                // It spoke, over TLS, and was answered as one who speaks nonsense.
                assert!(printed.contains("claims to have"), "{printed}");
            }
        }
    });
}

#[test]
fn accepting_can_run_on_threads_of_its_own() {
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let handle = io.handle().clone();
    vat_test(async move {
        for key in [Some(SecretKey::ephemeral().unwrap()), None] {
            let here = Location::tcp("127.0.0.1", 0);
            let known = Rc::new(Known::with(&[b"a"]));
            let limits = Limits::default();
            let server = serve_with_io(&here, key, known, limits, handle.clone());
            let mut objects = Vec::new();
            for _ in 0..20 {
                let object: Client = server.dial().await.bootstrap(&id("a"));
                objects.push(object);
            }
            for object in &objects {
                let text = "x".repeat(100_000);
                assert_eq!(echo(object, &text).await.unwrap().len(), 100_002);
            }
            server.stop.cancel();
            server.done.await.unwrap();
            assert!(echo(&objects[0], "x").await.unwrap_err().is_disconnected());
        }
    });
}

/// A TLS server which knows nothing newer than TLS 1.2, made of rustls itself.
fn tls12_acceptor(key: &str) -> (tokio_rustls::TlsAcceptor, Digest) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let pem = std::fs::read(fixture(key)).unwrap();
    let digest = SecretKey::from_pem(&pem).unwrap().digest();
    let pair = rcgen::KeyPair::from_pem(&String::from_utf8(pem.clone()).unwrap()).unwrap();
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&pair)
        .unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), digest)
}

#[test]
fn a_peer_with_tls_1_2_only_is_served() {
    vat_test(async {
        for key in ["rsa-pkcs8.pem", "p256-pkcs8.pem"] {
            let (acceptor, digest) = tls12_acceptor(key);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::task::spawn_local(async move {
                let (socket, _) = listener.accept().await.unwrap();
                let stream = acceptor.accept(socket).await.unwrap();
                let peer = ocluster_vat::PeerInfo::local("old client", Digest::Insecure);
                let known = Rc::new(Known::with(&[b"a"]));
                let options = ocluster_vat::ConnectionOptions::accepted(known);
                ocluster_vat::Connection::from_stream(stream, peer, options);
            });
            let address = Address::new(Location::tcp("127.0.0.1", port), digest);
            let object: Client = dial(&address).await.bootstrap(&id("a"));
            assert_eq!(echo(&object, "old").await.unwrap(), "a:old");
        }
    });
}

#[test]
fn ipv6_works() {
    vat_test(async {
        let key = SecretKey::ephemeral().unwrap();
        let known = Rc::new(Known::with(&[b"a"]));
        let here: Location = "tcp:[::1]:0".parse().unwrap();
        let server = serve_at(&here, Some(key), known, Limits::default());
        let uri = SturdyRef::new(server.address.clone(), id("a")).to_uri();
        assert!(uri.contains("@[::1]:"), "{uri}");
        let sturdy = SturdyRef::parse(&uri).unwrap();
        let object: Client = dial(&sturdy.address).await.bootstrap(&sturdy.id);
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
    });
}

#[test]
fn a_name_with_several_addresses_is_tried_one_by_one() {
    vat_test(async {
        // "localhost" may be ::1 first; the server listens on one of its addresses only.
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let location = Location::tcp("localhost", server.port());
        let address = Address::new(location, server.address.digest);
        let object: Client = dial(&address).await.bootstrap(&id("a"));
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
    });
}

#[test]
fn unix_sockets_work_whatever_their_name() {
    vat_test(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b%c?#.sock");
        let here = Location::Unix(path.clone());
        for _ in 0..2 {
            // The second time the file of the first server is in the way: it is replaced.
            let key = SecretKey::ephemeral().unwrap();
            let known = Rc::new(Known::with(&[b"a"]));
            let server = serve_at(&here, Some(key), known, Limits::default());
            let uri = SturdyRef::new(server.address.clone(), id("a")).to_uri();
            assert!(uri.contains("/a%20b%25c%3F%23.sock/"), "{uri}");
            let sturdy = SturdyRef::parse(&uri).unwrap();
            let object: Client = dial(&sturdy.address).await.bootstrap(&sturdy.id);
            assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
        }
        let server = serve_at(&here, None, Rc::new(Known::default()), Limits::default());
        server.stop.cancel();
        server.done.await.unwrap();
        assert!(
            !path.exists(),
            "a server that stops removes its socket file"
        );
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&here).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
    });
}

#[test]
fn a_port_in_use_is_named() {
    vat_test(async {
        let first = Listener::bind(&Location::tcp("127.0.0.1", 0)).unwrap();
        let error = Listener::bind(first.local_location()).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        let named = first.local_location().to_string();
        assert!(error.to_string().contains(&named), "{error}");
    });
}

#[test]
fn nobody_there() {
    vat_test(async {
        let free = Listener::bind(&Location::tcp("127.0.0.1", 0)).unwrap();
        let location = free.local_location().clone();
        drop(free);
        let error = refused(&Address::new(location.clone(), Digest::Insecure)).await;
        let expected = format!("Network connection for {location} failed:\n  Connection refused");
        assert!(error.to_string().starts_with(&expected), "{error}");
    });
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up() {
    vat_test(async {
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = mute.local_addr().unwrap().port();
        let digest = Digest::Sha256([1; 32]);
        let address = Address::new(Location::tcp("127.0.0.1", port), digest);
        let options = DialOptions {
            timeout: Duration::from_millis(100),
            ..DialOptions::default()
        };
        let vat = Vat::client_only(Stats::new());
        let error = vat
            .connect(&address, &options, &mut |_| {})
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    });
}
