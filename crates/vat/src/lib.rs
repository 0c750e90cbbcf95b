//! Capabilities over TLS, as OCaml's capnp-rpc speaks them: keys and fingerprints, sturdy refs and
//! `.cap` files, listening, dialling, and connections with limits.
//!
//! The crate knows Cap'n Proto and TLS. It must never know a cluster's schema.
//!
//! A server makes a [`Listener`], implements [`Restorer`] and runs a [`Server`]; a client reads a
//! [`SturdyRef`], connects with a [`Vat`] and asks the [`Connection`] for the service. Everything
//! that holds a capability lives on one thread, inside a `tokio` `LocalSet`.
//!
//! Inside, bytes become messages in `frame`, are checked and rewritten in `incoming`, pass through
//! the queues of `link` to capnp-rpc (`rpc`, `network`), and leave by way of `outgoing`; `driver` is
//! the one task of a connection that makes all this move, and `ledger` keeps its books. capnp-rpc
//! itself knows no service ids, so `restore_call` answers them.

mod accept;
mod address;
mod broken;
mod certificate;
mod connect_error;
mod connection;
mod dial;
mod digest;
mod driver;
pub mod error;
mod frame;
mod guard;
mod incoming;
mod key;
mod key_error;
mod ledger;
mod limits;
mod link;
mod listener;
mod location;
mod network;
mod outgoing;
mod peer;
mod ping;
mod restore_call;
mod restorer;
mod rpc;
mod serve;
mod service_id;
mod settled;
mod socket;
mod stats;
mod strangers;
mod sturdy_ref;
mod sturdy_ref_error;
mod tls;
mod transport;

pub use address::Address;
pub use broken::{broken_cap, promised_cap};
pub use connect_error::ConnectError;
pub use connection::{CloseReason, Connection, ConnectionOptions, Side};
pub use dial::{DialOptions, Progress, Vat};
pub use digest::Digest;
pub use error::RpcError;
pub use guard::guarded_client;
pub use key::SecretKey;
pub use key_error::KeyError;
pub use limits::{Limits, StrangerLimits};
pub use listener::{ListenError, Listener};
pub use location::{Location, LocationError};
pub use peer::PeerInfo;
pub use ping::{ping, watch};
pub use restorer::{RestoreError, Restorer};
pub use serve::Server;
pub use service_id::{RANDOM_ID_BYTES, ServiceId};
pub use settled::settled;
pub use stats::Stats;
pub use sturdy_ref::SturdyRef;
pub use sturdy_ref_error::SturdyRefError;
pub use transport::{Acceptance, ByteStream, Transport};
