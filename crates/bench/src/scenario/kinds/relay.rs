//! The reference for streaming logs: a plain relay over TLS, with two hops and one file, in a process of its own.
//!
//! One peer sends, the other receives what the first one sent, and the relay writes it to a file in between: what a scheduler cannot do
//! without, and nothing else. It has no protocol: who connects first is the source, the other the sink. The relay ends when its
//! standard input does, so that it does not outlive whoever started it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The name in the relay's certificate.
const NAME: &str = "localhost";
/// Bytes read at once, which is what a log's chunk has.
const CHUNK: usize = 128 * 1024;
/// How long the relay may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The relay's command line.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Directory for its certificate and for what goes through it.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl RelayArgs {
    /// Relays one stream after another, until standard input ends.
    ///
    /// # Errors
    /// If it cannot listen, or a stream breaks off.
    pub async fn run(&self) -> anyhow::Result<()> {
        let acceptor = self.acceptor()?;
        let listener = TcpListener::bind((NAME, 0)).await?;
        ocluster_cli::output::line(listener.local_addr()?.port().to_string())?;
        let relaying = async {
            loop {
                let mut source = accept(&listener, &acceptor).await?;
                let mut sink = accept(&listener, &acceptor).await?;
                relay(&mut source, &mut sink, &self.directory).await?;
            }
        };
        let mut nothing = Vec::new();
        let mut input = tokio::io::stdin();
        tokio::select! {
            ended = relaying => ended,
            ended = input.read_to_end(&mut nothing) => { ended?; Ok(()) }
        }
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        std::fs::write(certificate(&self.directory), made.cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        // As between vats. A ticket that nobody reads would also break off the stream of a source that leaves.
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

async fn accept(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
) -> anyhow::Result<server::TlsStream<TcpStream>> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(acceptor.accept(stream).await?)
}

/// Passes everything on, by way of a file. Nothing else waits for this thread, so the file is written right here, which costs least.
async fn relay(
    source: &mut server::TlsStream<TcpStream>,
    sink: &mut server::TlsStream<TcpStream>,
    directory: &Path,
) -> anyhow::Result<()> {
    let mut file = File::create(directory.join("relayed"))?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = source.read(&mut buffer).await?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            sink.shutdown().await?;
            return Ok(());
        };
        file.write_all(piece)?;
        sink.write_all(piece).await?;
    }
}

fn certificate(directory: &Path) -> PathBuf {
    directory.join("relay.pem")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A relay that runs. It is killed when this is dropped.
pub(super) struct Relay {
    process: Child,
    way: Way,
}

/// The way to a relay, for any thread.
#[derive(Clone)]
pub(super) struct Way {
    connector: TlsConnector,
    port: u16,
}

/// One end of a relayed stream.
pub(super) type End = client::TlsStream<TcpStream>;

impl Relay {
    /// Starts one, with its files in `directory`.
    ///
    /// # Errors
    /// If it does not come up.
    pub(super) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut process = Command::new(program)
            .arg("relay")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a relay")?;
        let said = process.stdout.take().context("a relay without output")?;
        let mut said = BufReader::new(said).lines();
        let port = tokio::time::timeout(START_LIMIT, said.next_line())
            .await
            .context("the relay does not start")??
            .context("the relay ended at once")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate(directory))?)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let way = Way {
            connector: TlsConnector::from(Arc::new(config)),
            port: port.trim().parse()?,
        };
        Ok(Self { process, way })
    }

    /// Its process.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().context("the relay has ended")
    }

    /// The way to it.
    pub(super) fn way(&self) -> Way {
        self.way.clone()
    }
}

impl Way {
    /// Connects: as the source of a stream, and as its sink the next time.
    ///
    /// # Errors
    /// If the relay does not answer.
    pub(super) async fn connect(&self) -> anyhow::Result<End> {
        let stream = TcpStream::connect((NAME, self.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(NAME)?;
        Ok(self.connector.connect(name, stream).await?)
    }
}
