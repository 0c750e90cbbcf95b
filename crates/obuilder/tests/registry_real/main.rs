//! Pulling from a real registry (`docker-registry`), filled by a real tool (`skopeo`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod layout;
mod pulls;
mod registry;
mod speed;
