//! One job's life: queued, then running on a worker, then over.
//!
//! The lifetime is upstream's, "attached": the ticket and the job capability are references, and what happens when they go is the
//! whole point of this file.
//! - While the job is queued, its ticket keeps it. Releasing the ticket cancels it.
//! - Once it runs, the job capability keeps it, and the ticket is one more reference to that. When the last one goes, the worker is
//!   told to cancel. The scheduler's own calls to the worker are no references.
//!
//! Clients never talk to the worker: `log` and `result` are answered from here, so they go on working when the worker is gone.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures::channel::oneshot;
use ocluster_api::cluster_capnp::{self, job_descr};
use ocluster_api::{Descriptor, DescriptorError};
use ocluster_joblog::{End, LogReader, LogWriter};
use ocluster_scheduling::{ClientId, Hint, JobId, PoolName};
use ocluster_store::{Cause, JobKind, JobRecord, JobState};
use ocluster_vat::{RpcError, broken_cap, error as rpc_error, guarded_client, promised_cap};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::rpc::JobServer;
use crate::state::Scheduler;
use crate::tail::{self, TailEnd};
use crate::worker_session::WorkerSession;

/// How long a worker that has reported the result may take to hand over the rest of the log.
const LOG_GRACE: Duration = Duration::from_secs(60);

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
        /// Keeps the promise that clients hold until a worker takes the job.
        promise: Option<oneshot::Sender<capnp::Result<cluster_capnp::job::Client>>>,
    },
    /// A worker took it. It may be over since.
    Taken(Rc<Run>),
    /// It was cancelled before a worker took it.
    Broken(capnp::Error),
}

/// A job on a worker, and what is known of it afterwards.
pub(crate) struct Run {
    worker: Rc<WorkerSession>,
    started_ms: u64,
    log: LogReader,
    outcome: OnceCell<Result<String, RpcError>>,
    over: Notify,
    cancel: CancellationToken,
}

impl Run {
    /// The job's log.
    pub(crate) fn log(&self) -> &LogReader {
        &self.log
    }

    /// Waits for the job to end.
    pub(crate) async fn outcome(&self) -> Result<String, RpcError> {
        loop {
            // Registered before the look, so that an end in between is not missed.
            let over = self.over.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            over.await;
        }
    }

    /// Tells the worker to stop the job. Nothing happens if it is over, or was told before.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }
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
    ) -> Result<Rc<Self>, DescriptorError> {
        let hint = submitted.descr.get_cache_hint()?.to_string();
        let hint = Hint::from(hint.map_err(capnp::Error::from)?);
        let kind = kind_of(submitted.descr)?;
        let descriptor = Descriptor::copy_of(submitted.descr)?;
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
                promise: None,
            }),
            held_by_ticket: RefCell::new(None),
            cancel_reason: Cell::new("Access has been revoked"),
        }))
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
    pub(crate) fn broken_in_queue(&self) {
        let error = rpc_error::failed(self.cancel_reason.get());
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
    ) -> Option<Descriptor> {
        let writer = match scheduler.logs().create(self.id.0) {
            Ok(writer) => writer,
            Err(error) => {
                warn!(job = %self.id, %error, "Cannot keep this job's log");
                self.set_cancel_reason("The scheduler cannot keep this job's log");
                self.broken_in_queue();
                return None;
            }
        };
        let run = Rc::new(Run {
            worker,
            started_ms: scheduler.now_ms(),
            log: writer.reader(),
            outcome: OnceCell::new(),
            over: Notify::new(),
            cancel: CancellationToken::new(),
        });
        let job: cluster_capnp::job::Client = guarded_client(
            Rc::new(JobServer::new(run.clone())),
            CancelOnRelease(run.clone()),
        );
        let before = self.phase.replace(Phase::Taken(run.clone()));
        let Phase::Queued {
            descriptor,
            promise,
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
        scheduler
            .records()
            .write_job(self.record(&run, JobState::Running, None));
        tokio::task::spawn_local(follow(
            scheduler.clone(),
            self.clone(),
            run,
            worker_job,
            writer,
        ));
        Some(descriptor)
    }

    fn record(&self, run: &Run, state: JobState, ended_ms: Option<u64>) -> JobRecord {
        let id = ocluster_store::JobId::new(self.id.0);
        let mut record = JobRecord::queued(
            id,
            self.pool.as_str(),
            self.client.as_str(),
            self.kind.clone(),
            self.queued_ms,
        );
        record.hint = self.hint.as_str().to_owned();
        record.urgent = self.urgent;
        record.state = state;
        record.worker = Some(run.worker.name.as_str().to_owned());
        record.attempt = 1;
        record.times.started = Some(run.started_ms);
        record.times.ended = ended_ms;
        record.log_length = run.log.length();
        match run.outcome.get() {
            Some(Ok(output)) => record.output.clone_from(output),
            Some(Err(error)) => {
                record.cause = Some(Cause {
                    code: cause_code(state).to_owned(),
                    sentence: error.reason().to_owned(),
                });
            }
            None => {}
        }
        record
    }
}

/// What all references to a running job share: when the last one goes, the job is cancelled.
struct CancelOnRelease(Rc<Run>);

impl Drop for CancelOnRelease {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Follows a job on its worker until both its result and its log are here.
async fn follow(
    scheduler: Rc<Scheduler>,
    job: Rc<Job>,
    run: Rc<Run>,
    worker_job: cluster_capnp::job::Client,
    mut log: LogWriter,
) {
    let mut result = worker_job.result_request().send().promise;
    let mut tail = Box::pin(tail::copy(&worker_job, &mut log));
    let mut tail_end = None;
    let mut told_to_cancel = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut result => break outcome,
            end = &mut tail, if tail_end.is_none() => tail_end = Some(end),
            () = run.cancel.cancelled(), if !told_to_cancel => {
                told_to_cancel = true;
                // The answer says nothing: the result will tell.
                tokio::task::spawn_local(worker_job.cancel_request().send().promise);
            }
        }
    };
    let outcome = outcome
        .and_then(|response| Ok(response.get()?.get_output()?.to_string()?))
        .map_err(|error| explain_loss(&run.worker, error.into()));
    let state = match &outcome {
        Ok(_) => JobState::Passed,
        Err(RpcError::Disconnected(_)) => JobState::Lost,
        Err(error) if told_to_cancel || error.reason() == "Build cancelled" => JobState::Cancelled,
        Err(_) => JobState::Failed,
    };
    info!(job = %job.id, worker = %run.worker.name, state = state.name(), "Job ended");
    if run.outcome.set(outcome).is_err() {
        warn!(job = %job.id, "A job ended twice");
    }
    run.over.notify_waiters();
    scheduler.job_finished(job.id);

    let end = match tail_end {
        Some(end) => end,
        None => tokio::time::timeout(LOG_GRACE, &mut tail)
            .await
            .unwrap_or_else(|_| {
                TailEnd::Worker(RpcError::Failed(
                    "the worker did not complete the log in time".into(),
                ))
            }),
    };
    drop(tail);
    let end = match end {
        TailEnd::Complete => End::Closed,
        TailEnd::Worker(error) => End::Broken {
            reason: explain_loss(&run.worker, error).to_string(),
        },
        TailEnd::Disk(error) => End::Broken {
            reason: RpcError::Failed(format!("The rest of this log could not be kept: {error}"))
                .to_string(),
        },
    };
    if let Err(error) = log.finish(end).await {
        warn!(job = %job.id, %error, "Cannot complete this job's log");
    }
    let ended = Some(scheduler.now_ms());
    scheduler
        .records()
        .write_job(job.record(&run, state, ended));
}

/// A lost connection says whose it was: the text goes to people who never heard of this connection.
fn explain_loss(worker: &WorkerSession, error: RpcError) -> RpcError {
    match error {
        RpcError::Disconnected(reason) => RpcError::Disconnected(format!(
            "{reason} (the scheduler lost the worker \"{}\" while it ran this job)",
            worker.name
        )),
        other => other,
    }
}

fn cause_code(state: JobState) -> &'static str {
    match state {
        JobState::Lost => "worker-lost",
        JobState::Cancelled => "cancelled",
        _ => "build-failed",
    }
}

fn kind_of(descr: job_descr::Reader<'_>) -> capnp::Result<JobKind> {
    Ok(match descr.get_action().which() {
        Ok(job_descr::action::DockerBuild(_)) => JobKind::Docker,
        Ok(job_descr::action::Obuilder(_)) => JobKind::Obuilder,
        Ok(job_descr::action::Custom(custom)) => JobKind::Custom(custom?.get_kind()?.to_string()?),
        Err(capnp::NotInSchema(number)) => JobKind::Custom(format!("action {number}")),
    })
}
