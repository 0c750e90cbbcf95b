//! What can be due in a simulated farm, and what its parts say to each other.

use ocluster_scheduling::{JobId, PopId};

use crate::chance::Ms;
use crate::fault::Fault;
use crate::plan::Outcome;

/// A connection of a worker; never used again.
pub(crate) type Conn = u64;

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Happening {
    /// A client has a new job.
    NewJob { client: usize },
    /// All clients have many.
    Rush,
    /// A client's call arrives.
    Call(Call),
    /// A worker's message arrives.
    FromWorker { conn: Conn, says: FromWorker },
    /// A message for a worker arrives at its machine.
    ToWorker {
        worker: usize,
        conn: Conn,
        says: ToWorker,
    },
    /// A woken request runs.
    Resumes { epoch: u64, pop: PopId },
    /// A batch is on disk.
    Flushed { epoch: u64 },
    /// A connection may have given no sign of life for too long.
    Lease { epoch: u64, conn: Conn },
    /// A job's worker may have been away for too long.
    Away {
        epoch: u64,
        job: JobId,
        attempt: u32,
        conn: Conn,
    },
    /// The time for workers to come back after a start is over.
    Grace { epoch: u64 },
    /// An attempt is done, if its worker was not disturbed meanwhile.
    Done {
        worker: usize,
        job: JobId,
        token: u64,
    },
    /// A worker tries to connect.
    Connects { worker: usize, life: u64 },
    /// A worker may have been without a scheduler for too long.
    GivesUp { worker: usize, life: u64, since: Ms },
    /// A fault of this kind.
    Strikes(Fault),
    /// A freeze or a partition ends.
    Recovers { worker: usize, stall: u64 },
    /// A worker's process is started.
    Starts { worker: usize },
    /// The scheduler's process is started.
    SchedulerStarts,
    /// An administrator ends a pause.
    AdminResumes { worker: usize },
    /// Time passes for the core.
    Tick,
}

/// What a client asks of the scheduler. Repeated until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Call {
    /// Take this job, under this key.
    Submit(usize),
    /// Cancel it.
    Cancel(usize),
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FromWorker {
    /// It joins, and declares what it holds: job, attempt, and how that ended if it did.
    Joins {
        worker: usize,
        holds: Vec<(JobId, u32, Option<Outcome>)>,
    },
    /// It wants work.
    Active,
    /// It wants one job.
    Asks,
    /// An attempt ended.
    Ended {
        job: JobId,
        attempt: u32,
        outcome: Outcome,
    },
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ToWorker {
    /// The declared jobs, and whether it is to go on with each.
    Verdicts(Vec<(JobId, u32, bool)>),
    /// A job.
    Job { job: JobId, attempt: u32 },
    /// Stop it and forget it.
    Stop { job: JobId, attempt: u32 },
    /// Its outcome is on disk: forget it.
    Settled { job: JobId, attempt: u32 },
    /// The scheduler has closed the connection.
    Closed,
}
