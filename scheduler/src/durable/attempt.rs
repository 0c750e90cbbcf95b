//! One attempt: a job on one worker, which may be away for a while and come back with it.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ocluster_scheduling::WorkerName;
use ocluster_store::{JobRecord, JobState};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::source::{Outcome, WorkerJob};
use crate::worker_session::WorkerSession;

/// A job on one worker.
pub(crate) struct Attempt {
    /// From 1.
    pub(crate) number: u32,
    /// The worker that was given the job.
    pub(crate) worker: WorkerName,
    /// SHA-256 of the secret by which it is known again; only such a worker keeps jobs while it is away.
    pub(crate) identity: Option<[u8; 32]>,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_ms: u64,
    /// Where in the job's log its own begins.
    pub(crate) log_start: u64,
    /// Bytes of the job's log as of now.
    pub(crate) log_length: Cell<u64>,
    /// Bytes of the worker's log that were taken over.
    pub(crate) received: Cell<u64>,
    /// When it last printed something.
    pub(crate) last_output: Cell<Instant>,
    /// Where the worker is reached.
    pub(crate) seat: watch::Sender<Option<Seat>>,
    /// Fires when somebody wants the job to end.
    pub(crate) stop: CancellationToken,
    /// The worker is to give the job up, so that another one can have it.
    displaced: OnceCell<Displaced>,
    pub(crate) displacement: Notify,
    /// The worker gave its request up in the very moment it was given the job.
    pub(crate) lost_on_the_way: CancellationToken,
    /// What the worker has reported, if it did and the log was not complete then.
    pub(crate) reported: RefCell<Option<Outcome>>,
    /// Whether the worker was reached with it since the scheduler was started.
    pub(crate) seen: Cell<bool>,
    /// Whether it is over, and what becomes of the job is being seen to.
    pub(crate) over: Cell<bool>,
    /// Whether the scheduling core counts the job as running on the worker.
    pub(crate) counted: Cell<bool>,
}

/// A worker that is connected, and the job as it serves it.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) session: Rc<WorkerSession>,
    pub(crate) job: WorkerJob,
}

/// Why a job is taken from its worker.
#[derive(Clone, Debug)]
pub(crate) struct Displaced {
    /// For machines.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) sentence: String,
    /// Whether the attempt counts against the bound.
    pub(crate) counts: bool,
}

impl Attempt {
    /// An attempt that begins now.
    pub(crate) fn new(
        number: u32,
        worker: WorkerName,
        identity: Option<[u8; 32]>,
        started_ms: u64,
        log_start: u64,
        seat: Option<Seat>,
    ) -> Rc<Self> {
        Rc::new(Self {
            number,
            worker,
            identity,
            started_ms,
            log_start,
            log_length: Cell::new(log_start),
            received: Cell::new(0),
            last_output: Cell::new(Instant::now()),
            seat: watch::Sender::new(seat),
            stop: CancellationToken::new(),
            displaced: OnceCell::new(),
            displacement: Notify::new(),
            lost_on_the_way: CancellationToken::new(),
            reported: RefCell::new(None),
            seen: Cell::new(false),
            over: Cell::new(false),
            counted: Cell::new(false),
        })
    }

    /// Writes what is known of it into the job's record.
    pub(crate) fn note_in(&self, record: &mut JobRecord) {
        record.state = JobState::Running;
        record.attempt = self.number;
        record.worker = Some(self.worker.as_str().to_owned());
        record.worker_identity = self.identity;
        record.times.started = Some(self.started_ms);
        record.times.assigned = Some(self.started_ms);
        record.log_start = self.log_start;
        record.log_length = self.log_length.get();
    }

    /// Whether the worker is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.seat.borrow().is_some()
    }

    /// Takes the job from the worker. Only the first word counts.
    pub(crate) fn displace(&self, displaced: Displaced) {
        self.displaced.get_or_init(|| displaced);
        self.displacement.notify_waiters();
    }

    /// Why the job is taken from the worker, if it is.
    pub(crate) fn displaced(&self) -> Option<Displaced> {
        self.displaced.get().cloned()
    }

    /// Waits until the job is taken from the worker.
    pub(crate) async fn until_displaced(&self) -> Displaced {
        loop {
            let mut displacement = std::pin::pin!(self.displacement.notified());
            displacement.as_mut().enable();
            if let Some(displaced) = self.displaced() {
                return displaced;
            }
            displacement.await;
        }
    }

    /// How long the attempt has run, by the given clock.
    pub(crate) fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.started_ms))
    }
}
