//! What a store gives back at start: everything the scheduler keeps in memory.
//!
//! Finished jobs are not in it; they are asked for by id or page by page.

use serde::{Deserialize, Serialize};

use crate::{JobId, JobRecord};

/// Everything the scheduler needs at start. Each list is sorted by its leading fields, in the order they stand in the
/// type, so that two stores with the same content give equal snapshots.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Known workers and their pause.
    pub workers: Vec<KnownWorker>,
    /// Which worker holds the cache for which hint; only those of the asked-for age.
    pub hints: Vec<Hint>,
    /// Clients' rates.
    pub rates: Vec<Rate>,
    /// When clients' next jobs may fairly start.
    pub debts: Vec<Debt>,
    /// Clients' sturdy refs.
    pub clients: Vec<Client>,
    /// Records of jobs that have not ended (queued or running), oldest first. After a crash the scheduler decides
    /// what became of them.
    pub open_jobs: Vec<JobRecord>,
    /// The lowest job id which was never handed out. At least 1.
    pub next_job_id: JobId,
}

/// A worker that was seen in a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownWorker {
    /// The pool's name.
    pub pool: String,
    /// The worker's name, unique in its pool.
    pub name: String,
    /// Whether an admin paused it.
    pub paused: bool,
    /// Who paused it, why and when, if that was said.
    pub pause: Option<Pause>,
}

/// What is known of an admin's pause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pause {
    /// Who asked for it, in their own words.
    pub by: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// When a client's next job in a pool may fairly start.
#[derive(Debug, Clone, PartialEq)]
pub struct Debt {
    /// The pool's name.
    pub pool: String,
    /// The client's name.
    pub client: String,
    /// In seconds since the Unix epoch.
    pub next_fair_start: f64,
}

/// A worker which holds the cache for a hint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    /// The pool's name.
    pub pool: String,
    /// The cache hint.
    pub hint: String,
    /// The worker's name.
    pub worker: String,
    /// The last day a job with this hint went there, in days since 1970-01-01 UTC.
    pub day: u32,
}

/// A client's rate in a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// The pool's name.
    pub pool: String,
    /// The client's name.
    pub client: String,
    /// The rate, as it was set.
    pub rate: f64,
}

/// A client's sturdy ref.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The client's name.
    pub client: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The day it was granted, in days since 1970-01-01 UTC.
    pub created_day: u32,
}

impl Snapshot {
    /// Sorts every list into the order the type promises.
    pub(crate) fn sort(&mut self) {
        self.workers.sort();
        self.hints.sort();
        self.rates
            .sort_by(|a, b| (&a.pool, &a.client).cmp(&(&b.pool, &b.client)));
        self.debts
            .sort_by(|a, b| (&a.pool, &a.client).cmp(&(&b.pool, &b.client)));
        self.clients.sort();
        self.open_jobs.sort_by_key(|job| job.id);
    }
}
