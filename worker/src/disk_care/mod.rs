//! Keeps the Docker engine's disk from filling up: looks before each request for a job, and prunes when room is short.
//!
//! `limit` decides from numbers whether room is short, and does nothing else; `care` asks for the numbers and acts on the answer;
//! `host` is the real engine and its disk.

mod care;
mod host;
mod limit;

pub use crate::executor::docker::{PruneScope, PruneScopeError};
pub(crate) use care::{DiskCare, Place};
pub(crate) use host::Host;
pub use limit::{DiskLimit, DiskLimitError, FreePercent, ImagesSize};
