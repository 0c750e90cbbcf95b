//! Dialling: from an address to a connection whose other end has proved to be the right vat.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::socket::{Socket, tune};
use crate::tls::{Identity, client_config, server_name};
use crate::transport::Transport;
use crate::{
    Address, ConnectError, Connection, ConnectionOptions, Digest, Limits, Location, PeerInfo,
    SecretKey, Side, Stats,
};

/// How long one of several addresses of a host may take before the next one is tried.
const PER_ADDRESS: Duration = Duration::from_secs(5);

/// How to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialOptions {
    /// For everything: name look-up, connecting, TLS handshake. Default: 30 s.
    pub timeout: Duration,
    /// What the peer may cost us. The limits for strangers do not apply to a peer we dialled.
    pub limits: Limits,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

/// What is being done while a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Looking up the name and connecting.
    Connecting,
    /// The network connection is there; shaking hands.
    Handshake,
}

/// A vat which dials. A clone is the same vat.
#[derive(Clone)]
pub struct Vat(Rc<Inner>);

type Slot = Rc<Mutex<Option<Connection>>>;

struct Inner {
    stats: Stats,
    /// In place of the machine's sockets, if there is one.
    network: Option<Arc<dyn Transport>>,
    identity: OnceCell<Identity>,
    /// One connection per address, shared by all sturdy refs of that vat.
    slots: RefCell<HashMap<Address, Slot>>,
}

impl Vat {
    /// A vat which offers nothing itself. It has one ephemeral key, made when first needed; OCaml's
    /// vats keep one connection per key, so make one vat per process.
    #[must_use]
    pub fn client_only(stats: Stats) -> Self {
        Self::with_network(None, stats)
    }

    pub(crate) fn with_network(network: Option<Arc<dyn Transport>>, stats: Stats) -> Self {
        Self(Rc::new(Inner {
            stats,
            network,
            identity: OnceCell::new(),
            slots: RefCell::default(),
        }))
    }

    /// Connects to the vat at `address`, or gives the live connection to it. `progress` is told
    /// about each step of a new connection. Must run on a `LocalSet`. Cancel safe.
    ///
    /// # Errors
    /// When nobody answers, or not the right vat. Whether a sturdy ref is valid shows only later.
    pub async fn connect(
        &self,
        address: &Address,
        options: &DialOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Connection, ConnectError> {
        let slot = self.slot(address);
        let mut slot = slot.lock().await;
        if let Some(connection) = &*slot
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let dialled = tokio::time::timeout(options.timeout, self.dial(address, options, progress));
        let connection = dialled.await.map_err(|_| ConnectError::Timeout {
            address: address.clone(),
            after: options.timeout,
        })??;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Ends all connections of this vat: peers get an `Abort` with `reason`. Returns when the last
    /// bytes have left.
    pub async fn disconnect_all(&self, reason: &str) {
        let slots: Vec<Slot> = self.0.slots.borrow().values().cloned().collect();
        let mut connections = Vec::new();
        for slot in slots {
            connections.extend(slot.lock().await.take());
        }
        for connection in &connections {
            connection.disconnect(reason);
        }
        for connection in &connections {
            connection.closed().await;
        }
    }

    fn slot(&self, address: &Address) -> Slot {
        let mut slots = self.0.slots.borrow_mut();
        slots.entry(address.clone()).or_default().clone()
    }

    async fn dial(
        &self,
        address: &Address,
        options: &DialOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Connection, ConnectError> {
        progress(Progress::Connecting);
        let deadline = Instant::now() + options.timeout;
        let opened = match &self.0.network {
            None => open(&address.location, deadline).await,
            Some(network) => {
                let stream = network.dial(&address.location).await;
                stream.map(|stream| (Socket::Given(stream), None))
            }
        };
        let (socket, ip) = opened.map_err(|e| ConnectError::Io {
            address: address.clone(),
            reason: e.to_string(),
        })?;
        let peer = PeerInfo {
            digest: address.digest,
            location: address.to_string(),
            ip,
        };
        let connection_options = ConnectionOptions {
            side: Side::Dialled,
            limits: options.limits.clone(),
            stats: self.0.stats.clone(),
            restorer: None,
        };
        if !address.digest.is_secure() {
            return Ok(Connection::from_stream(socket, peer, connection_options));
        }
        progress(Progress::Handshake);
        let stream = self.shake_hands(address, socket).await?;
        Ok(Connection::from_stream(
            Box::new(stream),
            peer,
            connection_options,
        ))
    }

    async fn shake_hands(
        &self,
        address: &Address,
        socket: Socket,
    ) -> Result<tokio_rustls::client::TlsStream<Socket>, ConnectError> {
        let got = Arc::new(OnceLock::new());
        let config = client_config(self.identity()?, address.digest, got.clone()).map_err(|e| {
            ConnectError::Tls {
                address: address.clone(),
                reason: e.to_string(),
            }
        })?;
        TlsConnector::from(config)
            .connect(server_name(), socket)
            .await
            .map_err(|e| handshake_error(address, &e, got.get().copied()))
    }

    fn identity(&self) -> Result<&Identity, ConnectError> {
        if let Some(identity) = self.0.identity.get() {
            return Ok(identity);
        }
        let identity = Identity::new(&SecretKey::ephemeral()?)?;
        Ok(self.0.identity.get_or_init(|| identity))
    }
}

fn handshake_error(address: &Address, error: &io::Error, got: Option<Digest>) -> ConnectError {
    let address = address.clone();
    let cause = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match (got, cause) {
        (Some(got), _) => ConnectError::WrongFingerprint {
            expected: address.digest,
            address: Box::new(address),
            got,
        },
        (None, Some(rustls::Error::InvalidMessage(_))) => ConnectError::NotTls { address },
        (None, Some(cause)) => ConnectError::Tls {
            address,
            reason: cause.to_string(),
        },
        (None, None) => ConnectError::Tls {
            address,
            reason: match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    "the server closed the connection during the handshake".to_owned()
                }
                _ => error.to_string(),
            },
        },
    }
}

/// Opens a network connection, trying each address of the host in turn.
async fn open(
    location: &Location,
    deadline: Instant,
) -> io::Result<(Socket, Option<std::net::IpAddr>)> {
    let (host, port) = match location {
        Location::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            return Ok((Socket::Unix(stream), None));
        }
        Location::Tcp { host, port } => (host.as_str(), *port),
    };
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut faults = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let is_last = index + 1 == addresses.len();
        let patience = if is_last {
            deadline
        } else {
            deadline.min(Instant::now() + PER_ADDRESS)
        };
        match tokio::time::timeout_at(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream)?;
                return Ok((Socket::Tcp(stream), Some(address.ip())));
            }
            Ok(Err(e)) => faults.push((address, e.to_string())),
            Err(_) => faults.push((address, "no answer".to_owned())),
        }
    }
    let reason = match faults.as_slice() {
        [] => "the host name has no address".to_owned(),
        [(_, fault)] => fault.clone(),
        several => {
            let each = several
                .iter()
                .map(|(address, fault)| format!("{address}: {fault}"));
            each.collect::<Vec<_>>().join("\n  ")
        }
    };
    Err(io::Error::other(reason))
}
