//! serve
use crate::{Limits, Location, Restorer, SecretKey, Stats};
use std::rc::Rc;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
/// Why listening failed.
#[derive(Debug, Error)]
pub enum ListenError {
    /// x
    #[error("cannot listen on {location}: {reason}")]
    Bind {
        /// Where.
        location: Location,
        /// Why.
        reason: String,
    },
}
/// A bound socket.
pub struct Listener(());
impl Listener {
    /// Binds and listens (blocking only for a name look-up).
    pub fn bind(_location: &Location) -> Result<Self, ListenError> {
        todo!()
    }
    /// Where it listens, port 0 resolved.
    pub fn local_location(&self) -> &Location {
        todo!()
    }
}
/// Accepts connections and answers their sturdy refs.
pub struct Server {
    /// Where.
    pub listener: Listener,
    /// `None`: plain text.
    pub key: Option<SecretKey>,
    /// Limits.
    pub limits: Limits,
    /// Answers sturdy refs.
    pub restorer: Rc<dyn Restorer>,
    /// Counters.
    pub stats: Stats,
    /// The runtime which accepts and shakes hands.
    pub io: tokio::runtime::Handle,
}
impl Server {
    /// Serves on the vat thread's `LocalSet` until `shutdown`; then all connections are aborted
    /// with "Vat shut down" and their last bytes sent.
    pub async fn run(self, _shutdown: CancellationToken) {
        todo!()
    }
}
