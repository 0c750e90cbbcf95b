//! One durable job: what was asked for, and where it stands.
//!
//! There may be a million of them in the queue: what few jobs have is boxed, and the description is on disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ocluster_api::Descriptor;
use ocluster_joblog::LogWriter;
use ocluster_scheduling::{ClientId, Event, Hint, JobId, PoolName, Timestamp, WorkerName};
use ocluster_store::{Attempt as PastAttempt, Cause, JobKind, JobRecord, JobState, TimeLimits};
use tokio::sync::Notify;

use super::attempt::Attempt;

/// A durable job that is not over, or is just ending.
pub(crate) struct DurableJob {
    pub(crate) id: JobId,
    pub(crate) pool: PoolName,
    pub(crate) client: ClientId,
    pub(crate) hint: Hint,
    pub(crate) urgent: bool,
    pub(crate) kind: JobKind,
    pub(crate) queued_ms: u64,
    /// Its place in the queue, once it has one.
    pub(crate) fair_start: Cell<Timestamp>,
    pub(crate) limits: TimeLimits,
    pub(crate) key: Option<Box<str>>,
    pub(crate) submission_digest: Option<Box<[u8; 32]>>,
    pub(crate) phase: RefCell<Phase>,
    /// The description, as long as there is room for it in memory. It is on disk as well.
    pub(crate) description: RefCell<Option<Kept>>,
    /// The number of the last attempt.
    pub(crate) attempt: Cell<u32>,
    /// The attempts that came to nothing.
    pub(crate) past: RefCell<Vec<PastAttempt>>,
    /// Somebody wants it to end.
    pub(crate) stop: RefCell<Option<Box<Cause>>>,
    /// How it ends is decided, and being written down: nothing changes that any more.
    pub(crate) ending: Cell<bool>,
    /// The log between two attempts.
    pub(crate) log: RefCell<Option<LogWriter>>,
    /// Woken when it gets another phase, or its log begins.
    pub(crate) moved: Notify,
}

/// Where a durable job stands.
pub(crate) enum Phase {
    /// It waits for a worker.
    Queued,
    /// A worker has it, or is about to, or is away with it.
    Taken(Rc<Attempt>),
    /// It is over, and that is on disk.
    Over(Box<JobRecord>),
}

/// A description in memory, and its share of the room there.
pub(crate) struct Kept {
    pub(crate) descriptor: Descriptor,
    room: Rc<Cell<usize>>,
}

impl Kept {
    /// Keeps a description if there is room for it: `room` counts the bytes that are left.
    pub(crate) fn if_room(descriptor: Descriptor, room: &Rc<Cell<usize>>) -> Option<Self> {
        let left = room.get().checked_sub(descriptor.size_in_bytes())?;
        room.set(left);
        Some(Self {
            descriptor,
            room: room.clone(),
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room
            .set(self.room.get() + self.descriptor.size_in_bytes());
    }
}

impl DurableJob {
    /// A job as its record describes it, in the queue.
    pub(crate) fn of_record(record: JobRecord, names: &mut impl Names) -> Rc<Self> {
        Rc::new(Self {
            id: JobId(record.id.get()),
            pool: names.pool(&record.pool),
            client: names.client(&record.client),
            hint: names.hint(&record.hint),
            urgent: record.urgent,
            kind: record.kind,
            queued_ms: record.times.queued,
            fair_start: Cell::new(Timestamp::from_secs(record.fair_start)),
            limits: record.limits,
            key: record.key.map(String::into_boxed_str),
            submission_digest: record.submission_digest.map(Box::new),
            phase: RefCell::new(Phase::Queued),
            description: RefCell::new(None),
            attempt: Cell::new(record.attempt),
            past: RefCell::new(record.attempts),
            stop: RefCell::new(record.stop.map(Box::new)),
            ending: Cell::new(false),
            log: RefCell::new(None),
            moved: Notify::new(),
        })
    }

    /// Its number, as the store has it.
    pub(crate) fn store_id(&self) -> ocluster_store::JobId {
        ocluster_store::JobId::new(self.id.0)
    }

    /// Its record as of now.
    pub(crate) fn record(&self) -> JobRecord {
        if let Phase::Over(record) = &*self.phase.borrow() {
            return (**record).clone();
        }
        let mut record = JobRecord::queued(
            self.store_id(),
            self.pool.as_str(),
            self.client.as_str(),
            self.kind.clone(),
            self.queued_ms,
        );
        record.hint = self.hint.as_str().to_owned();
        record.urgent = self.urgent;
        record.durable = true;
        record.fair_start = self.fair_start.get().as_secs();
        record.limits = self.limits;
        record.attempt = self.attempt.get();
        record.attempts.clone_from(&self.past.borrow());
        record.key = self.key.as_deref().map(str::to_owned);
        record.submission_digest = self.submission_digest.as_deref().copied();
        record.stop = self.stop.borrow().as_deref().cloned();
        if let Some(log) = &*self.log.borrow() {
            record.log_length = log.length();
        }
        if let Some(last) = record.attempts.last() {
            record.log_start = last.log_start;
            record.worker = Some(last.worker.clone());
            record.times.started = Some(last.started);
        }
        if let Phase::Taken(attempt) = &*self.phase.borrow() {
            attempt.note_in(&mut record);
        }
        record
    }

    /// The attempt that is under way.
    pub(crate) fn under_way(&self) -> Option<Rc<Attempt>> {
        match &*self.phase.borrow() {
            Phase::Taken(attempt) => Some(attempt.clone()),
            Phase::Queued | Phase::Over(_) => None,
        }
    }

    /// Whether it waits for a worker.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Queued)
    }

    /// The record with which it ended, once that is on disk.
    pub(crate) fn over(&self) -> Option<JobRecord> {
        match &*self.phase.borrow() {
            Phase::Over(record) => Some((**record).clone()),
            Phase::Queued | Phase::Taken(_) => None,
        }
    }

    /// Waits until it is over, and gives its record.
    pub(crate) async fn ended(&self) -> JobRecord {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Registered before the look, so that an end in between is not missed.
            moved.as_mut().enable();
            if let Some(record) = self.over() {
                return record;
            }
            moved.await;
        }
    }

    /// Goes on to another phase, and tells whoever waits for that.
    pub(crate) fn move_to(&self, phase: Phase) {
        let before = self.phase.replace(phase);
        // Dropped only now: it may call back.
        drop(before);
        self.moved.notify_waiters();
    }

    /// What puts it back into the queue, at its old place.
    pub(crate) fn requeued(&self) -> Event {
        Event::Requeued {
            pool: self.pool.clone(),
            client: self.client.clone(),
            job: self.id,
            hint: self.hint.clone(),
            urgent: self.urgent,
            fair_start: self.fair_start.get(),
            avoid: self.avoided(),
        }
    }

    /// The workers on which it came to nothing.
    fn avoided(&self) -> Vec<WorkerName> {
        let mut names: Vec<WorkerName> = Vec::new();
        for attempt in self.past.borrow().iter() {
            if !names.iter().any(|name| name.as_str() == attempt.worker) {
                names.push(attempt.worker.as_str().into());
            }
        }
        names
    }

    /// Keeps an attempt that came to nothing in mind, with the first ones forgotten if there are too many.
    pub(crate) fn remember(&self, attempt: PastAttempt) {
        let mut past = self.past.borrow_mut();
        if past.len() >= JobRecord::MAX_ATTEMPTS {
            past.remove(0);
        }
        past.push(attempt);
    }

    /// How many attempts count against the bound.
    pub(crate) fn failed_attempts(&self) -> usize {
        let past = self.past.borrow();
        past.iter().filter(|attempt| attempt.counts).count()
    }

    /// The record with which it is over.
    pub(crate) fn final_record(
        &self,
        state: JobState,
        cause: Option<Cause>,
        output: String,
        ended_ms: u64,
    ) -> JobRecord {
        let mut record = self.record();
        record.state = state;
        record.cause = cause;
        record.output = output;
        record.times.ended = Some(ended_ms);
        record.stop = None;
        record.worker_identity = None;
        record
    }
}

/// Makes names, the same one for the same text where that saves memory.
pub(crate) trait Names {
    fn pool(&mut self, text: &str) -> PoolName;
    fn client(&mut self, text: &str) -> ClientId;
    fn hint(&mut self, text: &str) -> Hint;
}

/// Each name for itself.
pub(crate) struct Afresh;

impl Names for Afresh {
    fn pool(&mut self, text: &str) -> PoolName {
        text.into()
    }

    fn client(&mut self, text: &str) -> ClientId {
        text.into()
    }

    fn hint(&mut self, text: &str) -> Hint {
        text.into()
    }
}
