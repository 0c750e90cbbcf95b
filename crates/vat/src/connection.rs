//! A connection to another vat, as the rest of the program holds it.
//!
//! Lives on the vat thread, inside a `LocalSet`. Nothing here waits except [`Connection::closed`].

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::driver::{self, Driver};
use crate::link::Link;
use crate::restore_call;
use crate::rpc::Rpc;
use crate::strangers::Permit;
use crate::{Limits, PeerInfo, Restorer, ServiceId, Stats};

/// Why a connection ended. `Display` is the reason text: ours or the peer's goodbye, or what
/// happened to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason(Rc<str>);

impl CloseReason {
    pub(crate) fn new(reason: &str) -> Self {
        Self(reason.into())
    }

    /// The reason text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer dialled us: it is a stranger until it presents a valid sturdy ref.
    Accepted,
    /// We dialled the peer, and know whom.
    Dialled,
}

/// How to run a connection.
#[derive(Clone)]
pub struct ConnectionOptions {
    /// Which side we are.
    pub side: Side,
    /// What the peer may cost us.
    pub limits: Limits,
    /// Where to count.
    pub stats: Stats,
    /// Answers the peer's sturdy refs. Without one they fail with "This vat has no restorer".
    pub restorer: Option<Rc<dyn Restorer>>,
}

impl ConnectionOptions {
    /// A dialled connection which offers nothing, with default limits.
    #[must_use]
    pub fn dialled() -> Self {
        Self {
            side: Side::Dialled,
            limits: Limits::default(),
            stats: Stats::default(),
            restorer: None,
        }
    }

    /// An accepted connection which offers what `restorer` finds, with default limits.
    #[must_use]
    pub fn accepted(restorer: Rc<dyn Restorer>) -> Self {
        Self {
            side: Side::Accepted,
            limits: Limits::default(),
            stats: Stats::default(),
            restorer: Some(restorer),
        }
    }
}

/// One connection; a clone is the same connection. It stays open when all clones are dropped, for
/// the sake of the capabilities that travelled over it; [`Connection::disconnect`] ends it.
#[derive(Clone)]
pub struct Connection {
    link: Rc<Link>,
}

impl Connection {
    /// Starts a connection over any ready byte stream: a TLS session, a plain socket, a pipe or a
    /// simulated network. A task on the current `LocalSet` runs it.
    ///
    /// # Panics
    /// Outside of a `tokio` `LocalSet`.
    pub fn from_stream<S>(stream: S, peer: PeerInfo, options: ConnectionOptions) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        Self::start(stream, peer, options, None)
    }

    /// As [`Connection::from_stream`], for a peer which counts as a stranger while `permit` lives.
    pub(crate) fn start<S>(
        stream: S,
        peer: PeerInfo,
        options: ConnectionOptions,
        permit: Option<Permit>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let stranger = options.side == Side::Accepted;
        let link = Link::new(peer, options.limits, options.stats, stranger, permit);
        let connection = Self { link: link.clone() };
        let restorer = restore_call::client(&connection, &link, options.restorer);
        let rpc = Rpc::new(&link, restorer);
        link.set_rpc(&rpc);
        driver::spawn(Driver::new(stream, link, rpc));
        connection
    }

    /// The service `id` at the peer. Returns at once, and calls may be made at once (they are
    /// pipelined): that the peer does not know the id shows when the first call fails.
    pub fn bootstrap<C: FromClientHook>(&self, id: &ServiceId) -> C {
        let client = match self.link.rpc() {
            Some(rpc) if !self.link.is_ending() => rpc.bootstrap(&self.link, id),
            _ => capnp_rpc::new_broken_cap(self.link.closed_error()),
        };
        client.cast_to()
    }

    /// Waits until the connection has ended and its last bytes have left. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        let mut closed = self.link.closed();
        let ended = closed.wait_for(Option::is_some).await;
        match ended {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| CloseReason::new("Connection closed"))
    }

    /// Whether the connection has ended or is ending: new calls on it fail.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.link.is_ending()
    }

    /// Ends the connection: the peer gets an `Abort` of type disconnected with this reason, after
    /// everything that was sent before. Returns at once; [`Connection::closed`] waits for the end.
    pub fn disconnect(&self, reason: &str) {
        self.link
            .say_goodbye(capnp::ErrorKind::Disconnected, reason);
    }

    /// How long ago the last byte came from the peer (or the connection was made).
    #[must_use]
    pub fn last_received(&self) -> Duration {
        self.link.last_received().elapsed()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &PeerInfo {
        &self.link.peer
    }

    /// How many calls the peer has begun and not finished.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.link.ledger.borrow().calls_in_flight()
    }

    /// How many of our capabilities the peer holds.
    #[must_use]
    pub fn exports_held(&self) -> usize {
        self.link.ledger.borrow().exports_held()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.link.peer)
    }
}
