//! One job's life: queued, then running on a worker, then over.
//!
//! The lifetime is upstream's, "attached": the ticket and the job capability are references, and what happens when they go is the
//! whole point of this file.
//! - While the job is queued, its ticket keeps it. Releasing the ticket cancels it.
//! - Once it runs, the job capability keeps it, and the ticket is one more reference to that. When the last one goes, the worker is
//!   told to cancel. The scheduler's own calls to the worker are no references.
//!
//! Clients never talk to the worker: `log` and `result` are answered from here, so they go on working when the worker is gone.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use ocluster_api::cluster_capnp::{self, job_descr};
use ocluster_api::{Descriptor, DescriptorError};
use ocluster_scheduling::{ClientId, Hint, JobId, PoolName};
use ocluster_store::{Cause, JobKind, JobRecord, JobState, TimeLimits};
use ocluster_vat::{broken_cap, error as rpc_error, promised_cap};
use tracing::warn;

use crate::asked_pop::Given;
use crate::config::LimitRange;
use crate::follow::follow;
use crate::job_run::{Run, cause_code};
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// The longest text from outside that is kept, in bytes: hints, kinds, outputs.
pub(crate) const MAX_TEXT: usize = 64 * 1024;

/// What is told of a job that its pool would not let wait any longer.
pub(crate) const WAITED_TOO_LONG: &str =
    "Timed out: it waited for a worker longer than its pool allows";

/// A job the scheduler has accepted.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pool: PoolName,
    client: ClientId,
    hint: Hint,
    urgent: bool,
    kind: JobKind,
    queued_ms: u64,
    phase: RefCell<Phase>,
    /// The ticket's own reference to the job, from the first time somebody asks the ticket for it until the ticket is released.
    held_by_ticket: RefCell<Option<cluster_capnp::job::Client>>,
    /// What clients will be told if the job is cancelled while it is queued.
    cancel_reason: Cell<&'static str>,
}

enum Phase {
    Queued {
        descriptor: Descriptor,
        _charge: Charge,
        /// Keeps the promise that clients hold until a worker takes the job.
        promise: Option<oneshot::Sender<capnp::Result<cluster_capnp::job::Client>>>,
    },
    /// A worker took it. It may be over since.
    Taken(Rc<Run>),
    /// It was cancelled before a worker took it.
    Broken(capnp::Error),
}

/// What a client said of a job it submits.
pub(crate) struct Submitted<'a> {
    pub(crate) pool: PoolName,
    pub(crate) client: ClientId,
    pub(crate) descr: job_descr::Reader<'a>,
    pub(crate) urgent: bool,
}

impl Job {
    /// A job that is about to be queued.
    ///
    /// # Errors
    /// If the description's message is broken.
    pub(crate) fn new(
        id: JobId,
        submitted: &Submitted<'_>,
        now_ms: u64,
        queued_bytes: &Rc<Cell<usize>>,
    ) -> Result<Rc<Self>, DescriptorError> {
        let hint = submitted.descr.get_cache_hint()?;
        check_length("cache hint", hint.len())?;
        let hint = Hint::from(hint.to_string().map_err(capnp::Error::from)?);
        let kind = kind_of(submitted.descr)?;
        let descriptor = Descriptor::copy_of(submitted.descr)?;
        let charge = Charge::new(queued_bytes, descriptor.size_in_bytes());
        Ok(Rc::new(Self {
            id,
            pool: submitted.pool.clone(),
            client: submitted.client.clone(),
            hint,
            urgent: submitted.urgent,
            kind,
            queued_ms: now_ms,
            phase: RefCell::new(Phase::Queued {
                descriptor,
                _charge: charge,
                promise: None,
            }),
            held_by_ticket: RefCell::new(None),
            cancel_reason: Cell::new("Access has been revoked"),
        }))
    }

    /// How long it may take: what its pool says, as the frozen protocol has no words for it.
    pub(crate) fn limits(&self, scheduler: &Scheduler) -> TimeLimits {
        let pool = scheduler.pool_limits(&self.pool);
        let limit = |range: &LimitRange| {
            let limit = range.default.or(range.max);
            limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        };
        TimeLimits {
            running: limit(&pool.running),
            queued: limit(&pool.queued),
            silent: limit(&pool.silent),
        }
    }

    /// Until when it may wait for a worker, in milliseconds since the Unix epoch, if its pool says so.
    pub(crate) fn queued_until(&self, scheduler: &Scheduler) -> Option<u64> {
        let limit = self.limits(scheduler).queued?;
        Some(self.queued_ms.saturating_add(limit))
    }

    /// Bytes of its description, while it is queued.
    pub(crate) fn description_size(&self) -> usize {
        match &*self.phase.borrow() {
            Phase::Queued { descriptor, .. } => descriptor.size_in_bytes(),
            Phase::Taken(_) | Phase::Broken(_) => 0,
        }
    }

    pub(crate) fn hint(&self) -> &Hint {
        &self.hint
    }

    /// The job, for a client that asks the ticket for it: a promise until a worker takes it.
    pub(crate) fn capability(&self) -> cluster_capnp::job::Client {
        if let Some(held) = &*self.held_by_ticket.borrow() {
            return held.clone();
        }
        let job: cluster_capnp::job::Client = match &mut *self.phase.borrow_mut() {
            Phase::Queued { promise, .. } => {
                let (keep, kept) = oneshot::channel();
                *promise = Some(keep);
                promised_cap(async move {
                    kept.await
                        .unwrap_or_else(|_| Err(rpc_error::failed("The scheduler is stopping")))
                })
            }
            Phase::Broken(error) => return broken_cap(error.clone()),
            // The ticket holds the job from the moment it is taken; without it, the ticket was released.
            Phase::Taken(_) => return broken_cap(rpc_error::failed("Ticket released")),
        };
        self.held_by_ticket.replace(Some(job.clone()));
        job
    }

    /// Whether the ticket's `cancel` takes it from the queue, goes to the worker, or comes too late.
    pub(crate) fn run(&self) -> Result<Option<Rc<Run>>, capnp::Error> {
        match &*self.phase.borrow() {
            Phase::Queued { .. } => Ok(None),
            Phase::Taken(run) => Ok(Some(run.clone())),
            Phase::Broken(error) => Err(error.clone()),
        }
    }

    /// Says what clients are to be told if the job is cancelled while queued.
    pub(crate) fn set_cancel_reason(&self, reason: &'static str) {
        self.cancel_reason.set(reason);
    }

    /// The ticket lets go of the job. If that was the last reference, a running job is cancelled.
    pub(crate) fn drop_ticket_reference(&self) {
        let held = self.held_by_ticket.take();
        // Dropped only now: it may call back.
        drop(held);
    }

    /// The job is no longer queued and will never run: whoever waits for it is told why.
    pub(crate) fn broken_in_queue(&self, scheduler: &Scheduler) {
        let (state, code, reason) = match self.cancel_reason.get() {
            _ if scheduler.is_stopping() => (
                JobState::Cancelled,
                "scheduler-stopped",
                "The scheduler was stopped while this job was queued",
            ),
            WAITED_TOO_LONG => (JobState::TimedOut, "queued-time-limit", WAITED_TOO_LONG),
            reason => (JobState::Cancelled, cause_code(JobState::Cancelled), reason),
        };
        let mut record = self.record_of_submission();
        record.state = state;
        record.times.ended = Some(scheduler.now_ms());
        record.cause = Some(Cause {
            code: code.to_owned(),
            sentence: reason.to_owned(),
        });
        scheduler.write_job(record);
        let error = rpc_error::failed(reason);
        let before = self.phase.replace(Phase::Broken(error.clone()));
        if let Phase::Queued {
            promise: Some(promise),
            ..
        } = before
        {
            // Nobody may be waiting any more, which is fine.
            let _ = promise.send(Err(error));
        }
    }

    /// A worker takes the job: gives its description, and follows it to its end.
    ///
    /// Nothing if the job is not queued, which the core's effects never lead to.
    pub(crate) fn start(
        self: &Rc<Self>,
        scheduler: &Rc<Scheduler>,
        worker: Rc<WorkerSession>,
        worker_job: cluster_capnp::job::Client,
    ) -> Option<Given> {
        let writer = match scheduler.create_log(self.id, &self.client) {
            Ok(writer) => writer,
            Err(error) => {
                warn!(job = %self.id, %error, "Cannot keep this job's log");
                self.set_cancel_reason("The scheduler cannot keep this job's log");
                self.broken_in_queue(scheduler);
                return None;
            }
        };
        let run = Run::new(worker, scheduler.now_ms(), writer.reader());
        let job = run.capability();
        let before = self.phase.replace(Phase::Taken(run.clone()));
        let Phase::Queued {
            descriptor,
            promise,
            ..
        } = before
        else {
            self.phase.replace(before);
            return None;
        };
        match promise {
            // The promise the ticket holds now leads to the job. If all have let go of it, the job goes with it.
            Some(promise) => drop(promise.send(Ok(job))),
            None => drop(self.held_by_ticket.replace(Some(job))),
        }
        scheduler.write_job(self.record(&run));
        let following = follow(
            scheduler.clone(),
            self.clone(),
            run.clone(),
            worker_job,
            writer,
        );
        scheduler.tasks().spawn_local(following);
        Some(Given {
            descriptor,
            lease: None,
            lost: run.lost_on_the_way(),
        })
    }

    /// The record of the job while it is queued.
    pub(crate) fn record_of_submission(&self) -> JobRecord {
        let mut record = JobRecord::queued(
            ocluster_store::JobId::new(self.id.0),
            self.pool.as_str(),
            self.client.as_str(),
            self.kind.clone(),
            self.queued_ms,
        );
        record.hint = self.hint.as_str().to_owned();
        record.urgent = self.urgent;
        record
    }

    /// The record of the job on a worker, running or over.
    pub(crate) fn record(&self, run: &Run) -> JobRecord {
        let mut record = self.record_of_submission();
        run.note_in(&mut record);
        record
    }
}

pub(crate) fn check_length(what: &str, length: usize) -> capnp::Result<()> {
    if length > MAX_TEXT {
        let reason = format!("its {what} has {length} bytes, and {MAX_TEXT} are allowed");
        return Err(rpc_error::failed(reason));
    }
    Ok(())
}

/// A job's share of the memory that queued descriptions take, given back when dropped.
struct Charge {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Charge {
    fn new(total: &Rc<Cell<usize>>, bytes: usize) -> Self {
        total.set(total.get() + bytes);
        Self {
            total: total.clone(),
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}

pub(crate) fn kind_of(descr: job_descr::Reader<'_>) -> capnp::Result<JobKind> {
    Ok(match descr.get_action().which() {
        Ok(job_descr::action::DockerBuild(_)) => JobKind::Docker,
        Ok(job_descr::action::Obuilder(_)) => JobKind::Obuilder,
        Ok(job_descr::action::Custom(custom)) => JobKind::Custom(custom?.get_kind()?.to_string()?),
        Err(capnp::NotInSchema(number)) => JobKind::Custom(format!("action {number}")),
    })
}
