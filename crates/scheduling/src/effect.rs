//! Everything the core can ask of the outside: the answer to an event.
//!
//! Effects are to be performed in order. Each is a statement of what was decided; none may be refused.

use std::fmt;

use crate::ids::{Hint, JobId, PopId, WorkerId, WorkerName};
use crate::record::Record;
use crate::time::Timestamp;

/// What an event led to.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Effects {
    /// What to do, in this order.
    pub list: Vec<Effect>,
    /// Whether the event was accepted; if refused, `list` is empty.
    pub outcome: Result<(), Refusal>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Let this waiting pop run: feed [`crate::Event::PopResumed`] for it soon, in the order of the wakes. Until then
    /// the job chosen for it sits on the worker's local queue, where it can still be cancelled.
    Wake {
        /// The pop.
        pop: PopId,
    },
    /// Answer this pop with this job, which is no longer queued.
    Give {
        /// The pop.
        pop: PopId,
        /// The job.
        job: JobId,
        /// The worker that asked.
        worker: WorkerId,
    },
    /// Answer this pop with "Worker disconnected": its worker left.
    EndPop {
        /// The pop.
        pop: PopId,
    },
    /// A submitted job was accepted, with this fair start. It says where the job's place is ([`crate::Event::Requeued`]).
    Queued {
        /// The job.
        job: JobId,
        /// Its fair start.
        fair_start: Timestamp,
    },
    /// Remember this. Comes before the effects that rely on it.
    Persist(Record),
    /// This job is no longer queued, and no worker will get it.
    JobCancelled {
        /// The job.
        job: JobId,
    },
    /// The number of jobs a worker is running changed; the worker may have left already.
    RunningChanged {
        /// The worker.
        worker: WorkerId,
        /// Its name.
        name: WorkerName,
        /// Jobs it has taken and not finished.
        running: u32,
    },
    /// Something operators look for in the log.
    Log(Fact),
}

/// Where a worker found the job it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenFrom {
    /// Its own local queue.
    Local,
    /// The pool's main queue.
    Main,
    /// The local queue of another worker, which could not start it now (only under [`crate::Policy::Balanced`]).
    LocalOf(WorkerName),
}

/// A decision worth a line in the log; displayed in the words operators of OCluster search for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A worker asked, and there is nothing for it.
    Waiting {
        /// The worker.
        worker: WorkerName,
    },
    /// A worker took a job.
    Takes {
        /// The worker.
        worker: WorkerName,
        /// The job's hint.
        hint: Hint,
        /// The queue it came from.
        from: TakenFrom,
    },
    /// A job was put on a worker's local queue.
    Assigned {
        /// The job's hint.
        hint: Hint,
        /// The worker.
        worker: WorkerName,
        /// Because of its cache (`true`), or because it is free.
        preferred: bool,
    },
    /// A job was put on the main queue.
    Backlogged {
        /// The job's hint.
        hint: Hint,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Waiting { worker } => write!(f, "\"{worker}\" is waiting for more work"),
            Fact::Takes { worker, hint, from } => {
                write!(f, "\"{worker}\" takes {} from ", hint.shown())?;
                match from {
                    TakenFrom::Local => f.write_str("its local queue"),
                    TakenFrom::Main => f.write_str("the main queue"),
                    TakenFrom::LocalOf(other) => write!(f, "the local queue of \"{other}\""),
                }
            }
            Fact::Assigned {
                hint,
                worker,
                preferred,
            } => {
                let why = if *preferred {
                    "preferred"
                } else {
                    "the next free worker"
                };
                write!(f, "Assigning {} to \"{worker}\" ({why})", hint.shown())
            }
            Fact::Backlogged { hint } => write!(f, "Adding {} to the backlog", hint.shown()),
        }
    }
}

/// Why an event was not accepted. Nothing changed. Sentences that OCluster sends to its peers keep its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No pool has this name.
    #[error("there is no pool called \"{0}\"")]
    UnknownPool(String),
    /// A connected worker has this name already.
    #[error("Worker already registered!")]
    NameTaken(WorkerName),
    /// The job is not on any queue: taken by a worker, cancelled before, or never seen.
    #[error("the job is not queued")]
    NotQueued,
    /// The job is not running on any worker.
    #[error("the job is not running")]
    NotRunning,
    /// The worker's registration has ended.
    #[error("Queue already closed!")]
    QueueClosed,
    /// The pop was answered, withdrawn or never asked, or is not due to run.
    #[error("nobody is waiting for this answer any more")]
    UnknownPop,
    /// The pool has never seen a worker with this name.
    #[error("Unknown worker")]
    UnknownWorker,
    /// A connected worker cannot be forgotten.
    #[error("Worker \"{0}\" is still connected!")]
    StillConnected(WorkerName),
    /// The caller gave a number that still stands for another job, worker or request.
    #[error("the number given to this job, worker or request is in use")]
    NumberReused,
}
