//! The kinds of trouble that befall a farm, and how often each did.

use crate::chance::{HOUR, MINUTE, Ms};

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A worker's process dies with all it runs, and is started again.
    WorkerCrash,
    /// A worker stands still, as with SIGSTOP, and goes on later, perhaps after it was taken for lost.
    WorkerFreeze,
    /// A connection breaks, and both sides notice.
    ConnectionBlip,
    /// Nothing passes between a worker and the scheduler for a while, and neither is told.
    Partition,
    /// The scheduler dies and comes back with what had been flushed.
    SchedulerCrash,
    /// The scheduler comes back with other bounds on the clients' jobs.
    QuotaChange,
    /// The disk takes seconds for a flush.
    SlowDisk,
    /// An administrator pauses a worker for a while.
    AdminPause,
    /// An administrator takes all jobs from a worker.
    Eviction,
    /// The scheduler's clock is set forward.
    ClockForward,
    /// The scheduler's clock is set back.
    ClockBackward,
    /// A client cancels a job.
    Cancel,
    /// An attempt fails for reasons that are not the job's.
    BrokenAttempt,
    /// A job kills the worker that runs it.
    PoisonJob,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Fault; 14] = [
        Fault::WorkerCrash,
        Fault::WorkerFreeze,
        Fault::ConnectionBlip,
        Fault::Partition,
        Fault::SchedulerCrash,
        Fault::QuotaChange,
        Fault::SlowDisk,
        Fault::AdminPause,
        Fault::Eviction,
        Fault::ClockForward,
        Fault::ClockBackward,
        Fault::Cancel,
        Fault::BrokenAttempt,
        Fault::PoisonJob,
    ];

    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Fault::WorkerCrash => "worker crashes",
            Fault::WorkerFreeze => "worker freezes",
            Fault::ConnectionBlip => "connection blips",
            Fault::Partition => "partitions",
            Fault::SchedulerCrash => "scheduler crashes",
            Fault::QuotaChange => "quota changes",
            Fault::SlowDisk => "slow flushes",
            Fault::AdminPause => "admin pauses",
            Fault::Eviction => "evictions",
            Fault::ClockForward => "clock jumps forward",
            Fault::ClockBackward => "clock jumps back",
            Fault::Cancel => "cancels",
            Fault::BrokenAttempt => "broken attempts",
            Fault::PoisonJob => "workers killed by jobs",
        }
    }

    /// The mean time between two of this kind in a farm; none for those that come of something else.
    pub(crate) fn mean(self) -> Option<Ms> {
        match self {
            Fault::WorkerCrash | Fault::WorkerFreeze | Fault::AdminPause => Some(2 * HOUR),
            Fault::ConnectionBlip => Some(40 * MINUTE),
            Fault::Partition => Some(90 * MINUTE),
            Fault::SchedulerCrash | Fault::SlowDisk => Some(3 * HOUR),
            Fault::Eviction => Some(5 * HOUR),
            Fault::ClockForward | Fault::ClockBackward => Some(8 * HOUR),
            Fault::QuotaChange | Fault::Cancel | Fault::BrokenAttempt | Fault::PoisonJob => None,
        }
    }
}

/// How often each kind happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    pub(crate) fn count(&mut self, fault: Fault) {
        if let Some(count) = self.0.get_mut(fault as usize) {
            *count += 1;
        }
    }

    /// How often this kind happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(fault as usize).copied().unwrap_or(0)
    }

    pub(crate) fn add(&mut self, other: &FaultCounts) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}
