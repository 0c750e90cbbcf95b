//! Why a job waits, in figures and words: its place, who is ahead of it, and what each worker has to do with it.
//!
//! Made on request, by a walk over the jobs ahead; it changes nothing.

use crate::ids::{ClientId, WorkerName};
use crate::reasons::{AdminPause, PauseNote, Reasons};
use crate::time::Timestamp;

/// What is to be said of a queued job.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Where it waits.
    pub waits: Waits,
    /// How many jobs of the same pool come before it: those on the same queue that are more urgent or have an earlier fair start.
    pub ahead: u64,
    /// Whose they are, those with the most first; at most ten.
    pub ahead_of: Vec<(ClientId, u64)>,
    /// Its fair start.
    pub fair_start: Timestamp,
    /// All workers the pool knows, by name, at most a hundred, and why each does not take the job at this moment.
    pub workers: Vec<(WorkerName, WhyNot)>,
    /// How many more there are.
    pub more_workers: u64,
}

/// Where a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// On the pool's queue.
    Main,
    /// On the queue of this worker, which was chosen for it.
    Local(WorkerName),
    /// Nowhere yet: so many jobs of its client may run at once.
    Quota(u32),
}

/// Why a worker does not take a job at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// It is not connected; whether an administrator has paused it as well.
    Disconnected {
        /// Whether it would not be given jobs if it were.
        paused: bool,
    },
    /// It gets no jobs for these reasons.
    Inactive {
        /// The reasons.
        reasons: Reasons,
        /// What it says of its own pause.
        note: Option<PauseNote>,
        /// What is known of an administrator's.
        pause: Option<AdminPause>,
    },
    /// It runs as many jobs as it asks for.
    Busy {
        /// Jobs it runs.
        running: u32,
        /// Jobs it says it runs at once; 0 if it does not say.
        capacity: u32,
    },
    /// The job came to nothing there before, and others could take it.
    Avoided,
    /// Jobs on its own queue come first.
    HasOthers {
        /// How many.
        queued: u64,
    },
    /// Nothing: it is about to take a job.
    Free,
}
