//! Images straight from registries, by the protocol of the OCI distribution specification: no daemon, no other program.
//!
//! ```text
//! source       one image: manifest, configuration, layers; mirrors first
//!   documents    what manifests and configurations say        platform   which of several images
//!   downloads    each layer once, whoever waits               progress   what is told of it
//!     download     attempts, resuming, digests                partial    the file
//!   transport    one question: tokens, logins, redirects      patience   when to try again
//!     endpoint     whom to ask, and whether with TLS          refusal    what a "no" means
//!     challenge, token, credentials, helper                   trouble    what went wrong
//! ```
//!
//! Registries are not trusted: everything that comes is bounded in size and time, and compared with its digest before it is used.
//! Passwords and tokens are in no log, no error and no `Debug`.

mod challenge;
mod config;
mod credentials;
mod digest;
mod documents;
mod download;
mod downloads;
mod endpoint;
mod helper;
mod partial;
mod patience;
mod platform;
mod progress;
mod refusal;
mod resolver;
mod source;
mod token;
mod transport;
mod trouble;

pub use config::{
    MirrorError, MirrorUrl, Mirrors, RegistryConfig, RegistryLimits, docker_config_file,
};
pub use digest::{Digest, DigestError};
pub use platform::Platform;
pub(crate) use platform::architecture;
pub use source::{Registries, RegistrySource};
