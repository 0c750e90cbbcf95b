//! What a program implements to answer sturdy refs: from the bytes a peer presents to an object.

use capnp::capability::Client;
use futures::future::LocalBoxFuture;
use thiserror::Error;

use crate::Connection;

/// Finds the object behind a service id. Lives on the vat thread.
pub trait Restorer {
    /// The object named by `id` (raw bytes, not necessarily text; empty for the public object).
    ///
    /// `connection` is the one it was presented on; objects may keep it, to watch their peer.
    ///
    /// It may wait, for a database for example; calls the peer pipelines wait with it. The future is
    /// dropped when the peer loses interest. Look ids up by [`crate::ServiceId::hash_of`], so that
    /// the time it takes says nothing about the secret.
    ///
    /// # Errors
    /// [`RestoreError::Unknown`] when there is no such object, [`RestoreError::Internal`] when
    /// looking failed. The peer is told which of the two, and no more.
    fn restore<'a>(
        &'a self,
        connection: &'a Connection,
        id: &'a [u8],
    ) -> LocalBoxFuture<'a, Result<Client, RestoreError>>;
}

/// Why an id was not restored. `Display` is what the peer is told.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Nothing has this id (any more).
    #[error("Unknown persistent service ID")]
    Unknown,
    /// The look-up failed. The text goes to our log, not to the peer.
    #[error("Internal error restoring object")]
    Internal(String),
}
