//! What one peer may cost us, and how long it may take to show that it knows a sturdy ref.
//!
//! A connection which breaks a limit is closed with an `Abort` whose reason names the limit, and
//! one line is logged. No other connection is affected.

use std::time::Duration;

/// The limits of a listener, or of one dialled connection. The defaults suit a build farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a TLS handshake may take. Default: 10 s.
    pub handshake_timeout: Duration,
    /// The largest message a peer may send, in bytes. Default: 64 MiB, as Cap'n Proto's own default.
    pub max_message_bytes: usize,
    /// The most bytes of received messages which may be held at once: calls being served, and
    /// answers being read. Default: 256 MiB.
    pub max_bytes_in_flight: usize,
    /// The most calls which the peer has begun and not yet finished. A client that asks for log and result of each job it has
    /// queued has four for each of them. Default: 100 000.
    pub max_calls_in_flight: usize,
    /// The most calls which the peer may withdraw before they are answered, over the whole life of
    /// the connection: each costs some hundred bytes until its end. Default: 100 000.
    pub max_withdrawn_calls: usize,
    /// The most capabilities of ours which the peer may hold. Default: 100 000.
    pub max_exports: usize,
    /// While more bytes than this wait to be sent, nothing is read from the peer. Default: 64 MiB.
    pub outgoing_high_water: usize,
    /// When more bytes than this wait to be sent, the connection is closed. Default: 256 MiB.
    pub max_outgoing_bytes: usize,
    /// How long the last bytes (an `Abort` among them) may take to leave when a connection is
    /// closed. Default: 3 s.
    pub close_timeout: Duration,
    /// What replaces some of the above until an accepted peer has presented a valid sturdy ref.
    pub before_sturdy_ref: StrangerLimits,
}

/// Limits for peers of a listener which have not presented a valid sturdy ref yet. Anyone who
/// reaches the port can get this far, so they are tight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangerLimits {
    /// How long a peer may stay connected without presenting a valid sturdy ref. Default: 30 s.
    pub deadline: Duration,
    /// The largest message, in bytes. Default: 64 KiB.
    pub max_message_bytes: usize,
    /// The most bytes of received messages held at once. Default: 256 KiB.
    pub max_bytes_in_flight: usize,
    /// The most calls not yet finished, `Bootstrap`s included, and as many withdrawn. Default: 64.
    pub max_calls_in_flight: usize,
    /// The most such connections of one listener, handshakes included. Default: 2048.
    pub max_connections: usize,
    /// The most such connections from one IP address. Default: 1024.
    pub max_connections_per_ip: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            handshake_timeout: Duration::from_secs(10),
            max_message_bytes: 64 * MIB,
            max_bytes_in_flight: 256 * MIB,
            max_calls_in_flight: 100_000,
            max_withdrawn_calls: 100_000,
            max_exports: 100_000,
            outgoing_high_water: 64 * MIB,
            max_outgoing_bytes: 256 * MIB,
            close_timeout: Duration::from_secs(3),
            before_sturdy_ref: StrangerLimits::default(),
        }
    }
}

impl Default for StrangerLimits {
    fn default() -> Self {
        const KIB: usize = 1024;
        Self {
            deadline: Duration::from_secs(30),
            max_message_bytes: 64 * KIB,
            max_bytes_in_flight: 256 * KIB,
            max_calls_in_flight: 64,
            max_connections: 2048,
            max_connections_per_ip: 1024,
        }
    }
}
