//! What the scheduler must remember across restarts, and nothing else.
//!
//! One trait, [`Store`], in plain types; two adapters, [`SledStore`] (the embedded default) and [`MemoryStore`]
//! (tests, simulations, `--state=memory`); one conformance suite that runs on both. A [`Writer`] owns a store on a
//! thread of its own and gives [`StoreHandle`]s to code which must never wait for a disk.
//!
//! It must never hold logs (see the `joblog` crate), never hold a secret (only hashes of them), and never decide
//! anything: the order of queues, the lifetime of jobs and the age of hints are other people's business.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bell;
mod change;
pub mod chores;
mod contract;
mod error;
mod group;
mod job;
mod job_id;
mod job_ids;
mod job_match;
mod memory;
mod sled;
mod snapshot;
mod task;
mod text_form;
mod writer;

pub use self::sled::{SledOptions, SledStore};
pub use change::{Change, day_of_ms};
pub use contract::Store;
pub use error::StoreError;
pub use job::{
    Attempt, Cause, JobKind, JobRecord, JobState, JobTimes, ParseJobKindError, TimeLimits,
};
pub use job_id::{JobId, ParseJobIdError};
pub use job_ids::JobIds;
pub use job_match::{JobMatch, JobPage};
pub use memory::MemoryStore;
pub use snapshot::{Client, Debt, Hint, KnownWorker, Pause, Rate, Snapshot};
pub use task::Pace;
pub use writer::{Pressure, StoreHandle, Writer, WriterConfig};
