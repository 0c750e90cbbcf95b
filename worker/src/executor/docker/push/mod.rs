//! Pushing a built image to a registry, through the engine's API.
//!
//! `deliver` is the whole of it: log in, lend the image its target's name, push, read the digest, take the name back. It tries again
//! (`retry`) what may go better a moment later (`fault`). `credentials` holds the login, `request` sends what the client library
//! cannot, `messages` reads what the engine answers, and `config` is what the operator decides.
//!
//! A login lives in the requests of one push and nowhere else: no `docker login` is run and no Docker configuration is read or
//! written, so jobs cannot see each other's.

mod config;
mod credentials;
mod deliver;
mod fault;
mod messages;
mod request;
mod retry;

pub use config::{AllowedRepository, AllowedRepositoryError, PushConfig};
pub(super) use deliver::{check_allowed, deliver};
pub use retry::Retries;
