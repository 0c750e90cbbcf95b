//! A queued job, and the key that orders it.

use crate::ids::JobId;
use crate::time::Timestamp;

use super::clients::ClientIndex;
use super::hints::HintIndex;
use super::worker::Seat;

/// The place of a job in any queue, smallest first: urgent ones, then the earlier fair start, then the earlier
/// submission. It never changes, so a job that is moved between queues keeps its position among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// `false` for urgent jobs, which so come first.
    patient: bool,
    fair_start: Timestamp,
    job: JobId,
}

impl Key {
    /// Comes before every other.
    pub(super) const FIRST: Key = Key {
        patient: false,
        fair_start: Timestamp::EARLIEST,
        job: JobId(0),
    };

    pub(super) fn new(urgent: bool, fair_start: Timestamp, job: JobId) -> Self {
        Self {
            patient: !urgent,
            fair_start,
            job,
        }
    }

    pub(super) fn urgent(&self) -> bool {
        !self.patient
    }

    pub(super) fn fair_start(&self) -> Timestamp {
        self.fair_start
    }

    pub(super) fn job(&self) -> JobId {
        self.job
    }
}

/// Which queue a job is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The main queue.
    Main,
    /// A worker's local queue, where it counts with this cost in seconds.
    Local { seat: Seat, cost: u32 },
    /// None: its client has as many jobs in the pool as it may.
    Held,
}

/// What a pool knows of a queued job. There may be a million of them: strings are held elsewhere, once.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) fair_start: Timestamp,
    pub(super) client: ClientIndex,
    pub(super) hint: HintIndex,
    pub(super) place: Place,
    pub(super) urgent: bool,
    /// Whether it has been left to a busy worker once; it will not be a second time.
    pub(super) deferred: bool,
    /// Whether it avoids any worker; which ones is held elsewhere.
    pub(super) wary: bool,
}

impl Ticket {
    pub(super) fn key(&self, job: JobId) -> Key {
        Key::new(self.urgent, self.fair_start, job)
    }
}

/// What a pool knows of a job that a worker has taken.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) worker: crate::ids::WorkerId,
    /// Its estimated cost in seconds there.
    pub(super) cost: u32,
    pub(super) hint: HintIndex,
    /// Whether it was expected to find its hint cached.
    pub(super) warm: bool,
    /// When it was taken, unless that was in an earlier registration.
    pub(super) since: Option<Timestamp>,
    /// Whose it is, if any client has a bound.
    pub(super) client: Option<crate::ids::ClientId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_queued_jobs_fit_in_little_memory() {
        assert!(size_of::<Ticket>() <= 32, "{}", size_of::<Ticket>());
        assert!(size_of::<Key>() <= 24, "{}", size_of::<Key>());
    }
}
