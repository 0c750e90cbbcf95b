//! Peers that speak by hand what the vat crate would not say.

use std::net::SocketAddr;
use std::sync::Arc;

use capnp::message::{Builder, ReaderOptions};
use capnp::traits::HasTypeId as _;
use capnp_rpc::rpc_capnp::message;
use ocluster_api::cluster_capnp::admin;
use ocluster_vat::ServiceId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, crypto};

/// A `Bootstrap` for a sturdy ref.
pub(crate) fn bootstrap(question: u32, id: &ServiceId) -> Vec<u8> {
    let mut builder = Builder::new_default();
    let mut bootstrap = builder.init_root::<message::Builder<'_>>().init_bootstrap();
    bootstrap.set_question_id(question);
    let object = bootstrap.init_deprecated_object_id();
    let mut id_with_nul = id.as_bytes().to_vec();
    id_with_nul.push(0);
    let data: capnp::data::Builder<'_> = object.initn_as(u32::try_from(id_with_nul.len()).unwrap());
    data.copy_from_slice(&id_with_nul);
    capnp::serialize::write_message_to_words(&builder)
}

/// A call of `Admin.pools` on the object that an earlier question is answered with.
pub(crate) fn call(question: u32, of: u32) -> Vec<u8> {
    let mut builder = Builder::new_default();
    let mut call = builder.init_root::<message::Builder<'_>>().init_call();
    call.set_question_id(question);
    call.set_interface_id(admin::Client::TYPE_ID);
    call.set_method_id(0);
    let target = call.reborrow().init_target();
    target.init_promised_answer().set_question_id(of);
    call.init_params();
    capnp::serialize::write_message_to_words(&builder)
}

/// The bytes of the next message, if one comes.
pub(crate) async fn read_message(peer: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    peer.read_exact(&mut bytes).await.ok()?;
    let segments = u32::from_le_bytes(bytes[..].try_into().unwrap()) as usize + 1;
    // The table of sizes takes whole words together with the number of segments.
    let table = (4 + 4 * segments).next_multiple_of(8);
    bytes.resize(table, 0);
    peer.read_exact(&mut bytes[4..]).await.ok()?;
    let sizes = bytes[4..].chunks(4).take(segments);
    let words: u32 = sizes
        .map(|size| u32::from_le_bytes(size.try_into().unwrap()))
        .sum();
    bytes.resize(table + words as usize * 8, 0);
    peer.read_exact(&mut bytes[table..]).await.ok()?;
    Some(bytes)
}

/// Everything that comes until the connection ends, however it ends.
pub(crate) async fn read_to_end(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = peer.read_to_end(&mut bytes).await;
    bytes
}

/// The `Abort` that comes next.
pub(crate) async fn last_word(peer: &mut TcpStream) -> String {
    let bytes = read_message(peer)
        .await
        .expect("the end came without a word");
    let reader =
        capnp::serialize::read_message(&mut bytes.as_slice(), ReaderOptions::new()).unwrap();
    let root: message::Reader<'_> = reader.get_root().unwrap();
    let Ok(message::Abort(Ok(why))) = root.which() else {
        panic!("not the last word: {root:?}");
    };
    let reason = why.get_reason().unwrap().to_str().unwrap();
    format!("{:?}: {reason}", why.get_type().unwrap())
}

/// Shakes hands without a certificate, and gives the error by which that ends.
pub(crate) async fn tls_without_certificate(address: SocketAddr) -> String {
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("capnp").unwrap();
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await;
    let ended = match connected {
        Err(error) => error,
        // With TLS 1.3 the client's part is over before the server has looked at it.
        Ok(mut stream) => {
            let _ = stream.write_all(b"anyone there?").await;
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(count) => panic!("still served, with {count} bytes"),
                Err(error) => error,
            }
        }
    };
    format!("{ended:?}")
}

/// Takes every certificate.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
