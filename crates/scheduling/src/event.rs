//! Everything that can happen to the core. Nothing else changes its state.

use crate::ids::{ClientId, Hint, JobId, PoolName, PopId, WorkerId, WorkerName};
use crate::rate::Rate;
use crate::reasons::{AdminPause, PauseNote};
use crate::time::Timestamp;

/// Something happened outside.
///
/// An event about something unknown (a job that ended, a worker that left, a pop that was answered) is refused or
/// ignored, never a fault: messages cross each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client submitted a job.
    Submitted {
        /// To this pool.
        pool: PoolName,
        /// The client.
        client: ClientId,
        /// A new number, greater than all before.
        job: JobId,
        /// The job's cache hint; may be empty.
        hint: Hint,
        /// Whether it goes before all jobs that are not urgent.
        urgent: bool,
    },
    /// A job that was accepted earlier is queued again, at its old place: after a restart, or because its attempt on a worker came
    /// to nothing. Nothing is charged for it.
    Requeued {
        /// Its pool.
        pool: PoolName,
        /// Its client.
        client: ClientId,
        /// Its number.
        job: JobId,
        /// Its cache hint.
        hint: Hint,
        /// Whether it is urgent.
        urgent: bool,
        /// The fair start it was given when it was submitted ([`crate::Effect::Queued`]).
        fair_start: Timestamp,
        /// Workers on which it came to nothing. They get it only if there is no other worker that could.
        avoid: Vec<WorkerName>,
    },
    /// A worker that has just joined still runs this job, which it was given in an earlier registration. The job must not be queued.
    /// Answered as if the worker had taken it now.
    Adopted {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// Its client.
        client: ClientId,
        /// Its cache hint.
        hint: Hint,
    },
    /// The client gave the job up. Refused with [`crate::Refusal::NotQueued`] once a worker has it.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// A worker joined a pool. It starts paused by itself; [`Event::WorkerResumed`] makes it active.
    Registered {
        /// The pool.
        pool: PoolName,
        /// A new number for this registration.
        worker: WorkerId,
        /// The name it gave.
        name: WorkerName,
        /// How many jobs it says it runs at once; 0 if unknown.
        capacity: u32,
    },
    /// A worker asks for one job. Answered, now or later, by one `Give` or `EndPop`.
    Asked {
        /// The worker.
        worker: WorkerId,
        /// A new number for this request.
        pop: PopId,
    },
    /// A pop for which the core said `Wake` now runs.
    PopResumed {
        /// The pop.
        pop: PopId,
    },
    /// The caller of this pop gave up waiting.
    PopWithdrawn {
        /// The pop.
        pop: PopId,
    },
    /// A job a worker had taken is no longer running there, however it ended.
    Finished {
        /// The job.
        job: JobId,
    },
    /// The worker asks for no more work.
    WorkerPaused {
        /// The worker.
        worker: WorkerId,
        /// Why, if it says so. Replaces what it said before.
        note: Option<PauseNote>,
    },
    /// The worker wants work (again).
    WorkerResumed {
        /// The worker.
        worker: WorkerId,
    },
    /// An administrator pauses or resumes a worker, connected or not.
    AdminActive {
        /// The pool.
        pool: PoolName,
        /// The worker.
        name: WorkerName,
        /// `false` pauses.
        active: bool,
        /// Whether a name never seen before is accepted.
        auto_create: bool,
        /// Who pauses it, why and since when, if they say so. Kept until it is resumed; a new one replaces the old.
        pause: Option<AdminPause>,
    },
    /// The worker is about to be restarted.
    ShuttingDown {
        /// The worker.
        worker: WorkerId,
    },
    /// The restart failed or was called off: the worker may work again.
    ShutdownCleared {
        /// The worker.
        worker: WorkerId,
    },
    /// The worker's registration ended: released, or its connection lost.
    Left {
        /// The worker.
        worker: WorkerId,
    },
    /// An administrator no longer wants to see this disconnected worker listed.
    Forgotten {
        /// The pool.
        pool: PoolName,
        /// The worker.
        name: WorkerName,
    },
    /// An administrator sets a client's rate in a pool, for its later submissions.
    RateSet {
        /// The pool.
        pool: PoolName,
        /// The client.
        client: ClientId,
        /// The rate.
        rate: Rate,
    },
    /// A client lost its access: its queued jobs are cancelled, in every pool, and its rates forgotten.
    ClientRemoved {
        /// The client.
        client: ClientId,
    },
    /// Time passed; due about once an hour. Expires old hints.
    Tick,
}
