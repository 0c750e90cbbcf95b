//! dial
use crate::{Address, Connection, Digest, Limits, Stats};
use std::time::Duration;
use thiserror::Error;
/// Options of [`Vat::connect`].
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// For everything from name look-up to the end of the TLS handshake. Default: 30 s.
    pub timeout: Duration,
    /// Limits of the connection.
    pub limits: Limits,
}
/// What is being done while connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Dialling `Address`.
    Connecting,
    /// Shaking hands.
    Handshake,
}
/// Why a connection could not be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// `Network connection for tcp:h:p failed: ...`
    #[error("Network connection for {address} failed:\n  {reason}")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        reason: String,
    },
    /// TLS failed.
    #[error("TLS connection to {address} failed: {reason}")]
    Tls {
        /// Where.
        address: Address,
        /// Why.
        reason: String,
    },
    /// Another key answered.
    #[error("wrong fingerprint")]
    WrongFingerprint {
        /// Where.
        address: Address,
        /// Expected.
        expected: Digest,
        /// Got.
        got: Digest,
    },
    /// The peer does not speak TLS.
    #[error("not tls")]
    NotTls {
        /// Where.
        address: Address,
    },
    /// It took too long.
    #[error("timeout")]
    Timeout {
        /// Where.
        address: Address,
        /// After.
        after: Duration,
    },
}
/// A vat which dials. A clone is the same vat.
#[derive(Clone)]
pub struct Vat(());
impl Vat {
    /// A vat which offers nothing itself; one ephemeral key is made when first needed.
    pub fn client_only(_stats: Stats) -> Self {
        todo!()
    }
    /// Connects, or gives the live connection to the same address.
    pub async fn connect(
        &self,
        _address: &Address,
        _options: &DialOptions,
        _progress: &mut dyn FnMut(Progress),
    ) -> Result<Connection, ConnectError> {
        todo!()
    }
}
