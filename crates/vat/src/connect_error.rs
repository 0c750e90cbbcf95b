//! Why a vat could not be reached, in sentences which say what to do about it.

use std::time::Duration;

use thiserror::Error;

use crate::{Address, Digest, KeyError};

/// Why [`crate::Vat::connect`] gave no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens there, the name is unknown, the network is down.
    #[error("Network connection for {address} failed:\n  {reason}")]
    Io {
        /// Where we tried.
        address: Address,
        /// What the operating system said, for each address of the host.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("TLS connection to {address} failed: {reason}")]
    Tls {
        /// Where we tried.
        address: Address,
        /// What the TLS library said.
        reason: String,
    },
    /// Somebody else's key answered.
    #[error(
        "another vat answers at {address}: expected the fingerprint {expected}, got {got}; the \
         server's key has changed (get a new .cap file), or something pretends to be the server"
    )]
    WrongFingerprint {
        /// Where we tried.
        address: Box<Address>,
        /// The fingerprint in the sturdy ref.
        expected: Digest,
        /// The fingerprint of the key that answered.
        got: Digest,
    },
    /// What answers there does not speak TLS.
    #[error(
        "no TLS at {address}: what answers there does not encrypt; if the server runs without TLS \
         on purpose, get a new .cap file from it (capnp://insecure@...)"
    )]
    NotTls {
        /// Where we tried.
        address: Address,
    },
    /// It took too long.
    #[error("no connection to {address} within {} s: nothing answers there", after.as_secs_f64())]
    Timeout {
        /// Where we tried.
        address: Address,
        /// How long.
        after: Duration,
    },
    /// Our own key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}
