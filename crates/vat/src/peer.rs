//! Who is at the other end of a connection, as far as we can tell.

use std::fmt;
use std::net::IpAddr;

use crate::Digest;

/// The other end of a connection. For logs and for the restorer; it grants nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The fingerprint of the key the peer proved to hold, or [`Digest::Insecure`].
    pub digest: Digest,
    /// Where the peer is, as text: `tcp:HOST:PORT`, `unix:PATH`, or what a test calls it.
    pub location: String,
    /// The peer's IP address, where it has one.
    pub ip: Option<IpAddr>,
}

impl PeerInfo {
    /// A peer without an IP address: a Unix socket, a pipe, a simulated host.
    pub fn local(location: impl Into<String>, digest: Digest) -> Self {
        Self {
            digest,
            location: location.into(),
            ip: None,
        }
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}
