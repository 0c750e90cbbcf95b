//! Accepting connections and shaking hands, as ordinary tasks on the I/O runtime.
//!
//! What leaves here is a connected socket, with a finished TLS session where there is TLS. One bad
//! peer must not delay another: every handshake is a task of its own, with a time limit.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::listener::{ListeningSocket, SocketFile};
use crate::socket::{Socket, tune};
use crate::strangers::{Permit, Refused, Strangers};
use crate::tls::peer_digest;
use crate::transport::Acceptance;
use crate::{Digest, Limits, Location, PeerInfo, StrangerLimits};

/// How long accepting pauses after an error such as "too many open files", at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// At most one line per this time tells about connections turned away.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A peer which may now speak Cap'n Proto. Its socket belongs to no runtime yet.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    pub(crate) peer: PeerInfo,
    pub(crate) permit: Permit,
}

pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What accepting needs to know.
pub(crate) struct Acceptor {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) limits: Limits,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    pub(crate) shutdown: CancellationToken,
}

enum Listening {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    Given(Box<dyn Acceptance>),
}

impl Listening {
    /// Registers the socket with the runtime this is called on.
    fn new(socket: ListeningSocket) -> io::Result<Self> {
        Ok(match socket {
            ListeningSocket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            ListeningSocket::Unix { listener, file } => Self::Unix {
                listener: UnixListener::from_std(listener)?,
                _file: file,
            },
            ListeningSocket::Given(acceptance) => Self::Given(acceptance),
        })
    }

    async fn accept(&self) -> io::Result<(Socket, String, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let ip = address.ip().to_canonical();
                let location = Location::tcp(ip.to_string(), address.port());
                if let Err(e) = tune(&stream) {
                    // The peer is gone already, or the kernel lacks an option: no reason to stop.
                    tracing::debug!(peer = %location, error = %e, "Cannot set socket options");
                }
                Ok((Socket::Tcp(stream), location.to_string(), Some(ip)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), "unix socket".to_owned(), None))
            }
            Self::Given(acceptance) => {
                let (stream, from) = acceptance.accept().await?;
                Ok((Socket::Given(stream), from, None))
            }
        }
    }
}

/// Accepts until `shutdown`. Runs on the I/O runtime.
pub(crate) async fn accept_all(socket: ListeningSocket, acceptor: Acceptor) {
    let listening = match Listening::new(socket) {
        Ok(listening) => listening,
        Err(e) => {
            tracing::error!(error = %e, "Cannot accept connections");
            return;
        }
    };
    let acceptor = Arc::new(acceptor);
    let strangers = Strangers::default();
    let mut pause = BACK_OFF.0;
    let mut refusals = RefusalLog::default();
    loop {
        let accepted = tokio::select! {
            () = acceptor.shutdown.cancelled() => return,
            accepted = listening.accept() => accepted,
        };
        match accepted {
            Ok((socket, location, ip)) => {
                pause = BACK_OFF.0;
                let entered = tokio::select! {
                    () = acceptor.shutdown.cancelled() => return,
                    entered = enter(&strangers, ip, &acceptor.limits.before_sturdy_ref) => entered,
                };
                match entered {
                    Ok(permit) => {
                        tokio::spawn(welcome(acceptor.clone(), socket, location, ip, permit));
                    }
                    Err(refused) => refusals.note(&location, &refused.to_string()),
                }
            }
            Err(e) if is_about_one_peer(&e) => {}
            Err(e) => {
                tracing::warn!(error = %e, retry_in = ?pause, "Cannot accept a connection");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// A place for a connection. While there are too many in all, which happens when everybody reconnects after a restart, it waits for
/// one, and those behind it wait in the kernel: each has to show a sturdy ref in time or make room.
async fn enter(
    strangers: &Strangers,
    ip: Option<IpAddr>,
    limits: &StrangerLimits,
) -> Result<Permit, Refused> {
    loop {
        match strangers.enter(ip, limits) {
            Err(Refused::Overall(_)) => strangers.freed().await,
            entered => return entered,
        }
    }
}

/// Errors of `accept` which concern a connection that died while it waited.
fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
    )
}

async fn welcome(
    acceptor: Arc<Acceptor>,
    socket: Socket,
    location: String,
    ip: Option<IpAddr>,
    permit: Permit,
) {
    let limit = acceptor.limits.handshake_timeout;
    let shaken = tokio::select! {
        () = acceptor.shutdown.cancelled() => return,
        shaken = tokio::time::timeout(limit, shake_hands(&acceptor, socket)) => shaken,
    };
    let reason = match shaken {
        Ok(Ok((stream, digest))) => {
            let peer = PeerInfo {
                digest,
                location,
                ip,
            };
            let arrival = Arrival {
                stream,
                peer,
                permit,
            };
            // Fails only when the vat thread is shutting down.
            let _ = acceptor.arrivals.send(arrival).await;
            return;
        }
        Ok(Err(reason)) => reason,
        Err(_) => format!(
            "TLS handshake not finished within {} s (handshake_timeout)",
            limit.as_secs_f64()
        ),
    };
    tracing::warn!(peer = location, reason, "Rejecting new connection");
}

async fn shake_hands(acceptor: &Acceptor, mut socket: Socket) -> Result<(Stream, Digest), String> {
    let detached = |e: io::Error| format!("cannot hand the connection over: {e}");
    let Some(tls) = &acceptor.tls else {
        socket.detach().map_err(detached)?;
        return Ok((Stream::Plain(socket), Digest::Insecure));
    };
    let mut stream = TlsAcceptor::from(tls.clone())
        .accept(socket)
        .await
        .map_err(|e| handshake_failure(&e))?;
    let digest = peer_digest(stream.get_ref().1.peer_certificates())
        .ok_or_else(|| "No client certificate found".to_owned())?;
    stream.get_mut().0.detach().map_err(detached)?;
    Ok((Stream::Tls(Box::new(stream)), digest))
}

fn handshake_failure(error: &io::Error) -> String {
    use rustls::Error;
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match cause {
        Some(Error::NoCertificatesPresented) => "No client certificate found".to_owned(),
        Some(Error::InvalidMessage(_)) => {
            "the peer does not speak TLS: is its sturdy ref an \"insecure\" one?".to_owned()
        }
        Some(cause) => format!("TLS connection failed: {cause}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer left during the TLS handshake".to_owned()
        }
        None => format!("TLS connection failed: {error}"),
    }
}

/// Tells about connections turned away without filling the log.
#[derive(Default)]
struct RefusalLog {
    last: Option<Instant>,
    unlogged: u64,
}

impl RefusalLog {
    fn note(&mut self, peer: &str, reason: &str) {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now < last + REFUSAL_LOG_INTERVAL)
        {
            self.unlogged += 1;
            return;
        }
        self.last = Some(now);
        let more = std::mem::take(&mut self.unlogged);
        tracing::warn!(peer, reason, more, "Refusing new connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_handshakes_are_told_apart() {
        let wrapped = |e: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, e);
        let missing = wrapped(rustls::Error::NoCertificatesPresented);
        assert_eq!(handshake_failure(&missing), "No client certificate found");
        let plain = wrapped(rustls::InvalidMessage::InvalidContentType.into());
        assert!(handshake_failure(&plain).starts_with("the peer does not speak TLS"));
        let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(handshake_failure(&gone).starts_with("the peer left"));
    }

    #[test]
    fn only_errors_about_one_peer_are_passed_over() {
        assert!(is_about_one_peer(&io::ErrorKind::ConnectionAborted.into()));
        let too_many_files = io::Error::from_raw_os_error(24);
        assert!(!is_about_one_peer(&too_many_files));
    }

    #[test]
    fn refusals_do_not_fill_the_log() {
        let mut log = RefusalLog::default();
        for _ in 0..10 {
            log.note("peer", "reason");
        }
        assert_eq!(log.unlogged, 9);
    }
}
