//! The network under a vat, when it is not the machine's own: what dials and what listens, in two small traits.
//!
//! Sockets of the operating system are the default and do not come through here, so they cost what they always cost. A simulated
//! network does. Everything above (TLS, limits, connections) is the same code over both.

use std::fmt;
use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Listener, Location, Stats, Vat};

/// A connection of some network: bytes in order, both ways, until one side ends it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A network.
///
/// Its streams are used on the runtime they were made on.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Connects to `location`. Dropping the future gives up.
    ///
    /// # Errors
    /// When nobody answers there.
    fn dial<'a>(&'a self, location: &'a Location)
    -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>>;

    /// Listens at `location`, from the moment the answer is there until it is dropped.
    ///
    /// # Errors
    /// When that is not possible.
    fn listen<'a>(
        &'a self,
        location: &'a Location,
    ) -> BoxFuture<'a, io::Result<Box<dyn Acceptance>>>;
}

/// A place where a [`Transport`] listens.
pub trait Acceptance: Send + Sync {
    /// Waits for the next connection, and says where it comes from. Cancel safe.
    ///
    /// # Errors
    /// When accepting is not possible at present. It is tried again soon.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>>;
}

impl Vat {
    /// As [`Vat::client_only`], over this network.
    #[must_use]
    pub fn over(network: std::sync::Arc<dyn Transport>, stats: Stats) -> Self {
        Self::with_network(Some(network), stats)
    }
}

impl Listener {
    /// Listens at `location` of this network. A [`crate::Server`] accepts there on its I/O runtime, which must then be the one this is
    /// called on.
    ///
    /// # Errors
    /// When the network does not allow it.
    pub async fn over(
        network: &dyn Transport,
        location: &Location,
    ) -> Result<Self, crate::ListenError> {
        match network.listen(location).await {
            Ok(acceptance) => Ok(Self::given(acceptance, location.clone())),
            Err(source) => Err(crate::ListenError::Bind {
                location: location.clone(),
                source,
            }),
        }
    }
}
