//! conn
use crate::{Limits, PeerInfo, Restorer, ServiceId, Stats};
use capnp::capability::FromClientHook;
use std::rc::Rc;
use std::time::Duration;
/// Why a connection ended. `Display` is the reason text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason(String);
impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
/// Which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer dialled us; it is a stranger until it presents a valid sturdy ref.
    Accepted,
    /// We dialled the peer.
    Dialled,
}
/// How to run a connection over a ready stream.
#[derive(Clone)]
pub struct ConnectionOptions {
    /// Our side.
    pub side: Side,
    /// Limits.
    pub limits: Limits,
    /// Counters.
    pub stats: Stats,
    /// Answers sturdy refs; without one they get "This vat has no restorer".
    pub restorer: Option<Rc<dyn Restorer>>,
}
/// One connection; a clone is the same connection. Lives on the vat thread.
#[derive(Clone)]
pub struct Connection(());
impl Connection {
    /// Starts a connection on the current `LocalSet` over any byte stream.
    pub fn from_stream<S>(_stream: S, _peer: PeerInfo, _options: ConnectionOptions) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    {
        todo!()
    }
    /// The service `id` at the peer. Returns at once; calls are pipelined. Errors show in the calls.
    pub fn bootstrap<C: FromClientHook>(&self, _id: &ServiceId) -> C {
        todo!()
    }
    /// Waits for the end of the connection.
    pub async fn closed(&self) -> CloseReason {
        todo!()
    }
    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// Sends an `Abort` of type disconnected with this reason, then closes. Returns at once.
    pub fn disconnect(&self, _reason: &str) {
        todo!()
    }
    /// How long ago the last byte came from the peer.
    pub fn last_received(&self) -> Duration {
        todo!()
    }
    /// The other end.
    pub fn peer(&self) -> &PeerInfo {
        todo!()
    }
}
