//! Pulling from registries that behave as they should, and from ones that stall, drop, lie and flood.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod image;
mod layers;
mod logins;
mod manifests;
mod mirrors;
mod pull;
mod server;
mod sharing;
mod tls;
