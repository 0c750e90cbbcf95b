//! What must survive a restart, in plain types: the core says what to keep, the store keeps it, and after a restart
//! the same records are fed back with [`crate::Cluster::restore`].
//!
//! Records are idempotent: the last one about a subject wins, so replaying a log of them gives the same state.

use crate::ids::{ClientId, Hint, PoolName, WorkerName};
use crate::rate::Rate;
use crate::reasons::AdminPause;
use crate::time::{Day, Timestamp};

/// One fact to remember, or to forget.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// This worker has been seen in this pool.
    KnownWorker {
        /// The pool.
        pool: PoolName,
        /// The worker.
        name: WorkerName,
        /// Whether an administrator paused it.
        paused: bool,
        /// Who paused it, why and when, if that was said.
        pause: Option<AdminPause>,
    },
    /// This client's next job may fairly start then, and not before.
    Debt {
        /// The pool.
        pool: PoolName,
        /// The client.
        client: ClientId,
        /// The time. The Unix epoch stands for a client that is gone, and owes nothing.
        next_fair_start: Timestamp,
    },
    /// This worker shall no longer be listed.
    ForgottenWorker {
        /// The pool.
        pool: PoolName,
        /// The worker.
        name: WorkerName,
    },
    /// This worker has run, or been given, a job with this hint, last on this day.
    CachedHint {
        /// The pool.
        pool: PoolName,
        /// The hint; may be empty, which is recorded and never looked up.
        hint: Hint,
        /// The worker.
        worker: WorkerName,
        /// The UTC day.
        day: Day,
    },
    /// That has become too old to be of use.
    ExpiredHint {
        /// The pool.
        pool: PoolName,
        /// The hint.
        hint: Hint,
        /// The worker.
        worker: WorkerName,
    },
    /// This client has this rate in this pool.
    Rate {
        /// The pool.
        pool: PoolName,
        /// The client.
        client: ClientId,
        /// The rate.
        rate: Rate,
    },
    /// This client has no rate of its own in this pool any more.
    RateDeleted {
        /// The pool.
        pool: PoolName,
        /// The client.
        client: ClientId,
    },
}
