//! The vat crate as its users and its peers see it: whole connections, over sockets, TLS and pipes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod fuzz;
mod lifecycle;
mod limits;
mod raw;
mod sockets;
mod support;
mod transport;
mod wire;
