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
    /// Of a job that its client's bound holds back: those of the same client that are held as well. At most
    /// [`Explanation::MOST_AHEAD`].
    pub ahead: u64,
    /// Whether there are more than that, which were not counted.
    pub more_ahead: bool,
    /// Whose the counted ones are, those with the most first; at most [`Explanation::MOST_CLIENTS`].
    pub ahead_of: Vec<(ClientId, u64)>,
    /// Its fair start.
    pub fair_start: Timestamp,
    /// All workers the pool knows, by name, at most [`Explanation::MOST_WORKERS`], and why each does not take the job at this moment.
    pub workers: Vec<(WorkerName, WhyNot)>,
    /// How many more there are.
    pub more_workers: u64,
}

impl Explanation {
    /// So many jobs ahead are counted at most: counting them must not hold up anybody.
    pub const MOST_AHEAD: usize = 100_000;
    /// So many clients are named at most.
    pub const MOST_CLIENTS: usize = 10;
    /// So many workers are named at most.
    pub const MOST_WORKERS: usize = 100;
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
    /// It asks for no more than the jobs it runs.
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
