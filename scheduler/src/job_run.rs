//! A job on its worker, from the moment it is taken on: who has it, its log, how it ended, and who still wants it.
//!
//! Kept by whoever holds the job's capability and by the task that follows it; a job that is over costs nothing else.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use ocluster_api::cluster_capnp::job;
use ocluster_joblog::LogReader;
use ocluster_scheduling::{WorkerId, WorkerName};
use ocluster_store::{Cause, JobRecord, JobState};
use ocluster_vat::{RpcError, guarded_client};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::job::MAX_TEXT;
use crate::rpc::JobServer;
use crate::worker_session::WorkerSession;

/// A job on a worker, and what is known of it afterwards.
pub(crate) struct Run {
    worker: Rc<WorkerSession>,
    started_ms: u64,
    log: LogReader,
    /// When it last printed something.
    pub(crate) last_output: Cell<Instant>,
    /// Why it is stopped, if it took too long.
    timed_out: OnceCell<Cause>,
    end: OnceCell<RunEnd>,
    over: Notify,
    cancel: CancellationToken,
    lost_on_the_way: CancellationToken,
}

/// How and when a job on a worker ended.
struct RunEnd {
    outcome: Result<String, RpcError>,
    state: JobState,
    at_ms: u64,
}

impl Run {
    /// A job that `worker` has just taken.
    pub(crate) fn new(worker: Rc<WorkerSession>, started_ms: u64, log: LogReader) -> Rc<Self> {
        Rc::new(Self {
            worker,
            started_ms,
            log,
            last_output: Cell::new(Instant::now()),
            timed_out: OnceCell::new(),
            end: OnceCell::new(),
            over: Notify::new(),
            cancel: CancellationToken::new(),
            lost_on_the_way: CancellationToken::new(),
        })
    }

    /// What clients hold of it. When the last reference goes, the job is cancelled.
    pub(crate) fn capability(self: &Rc<Self>) -> job::Client {
        guarded_client(
            Rc::new(JobServer::new(self.clone())),
            CancelOnRelease(self.clone()),
        )
    }

    /// Writes what is known of it into the job's record.
    pub(crate) fn note_in(&self, record: &mut JobRecord) {
        record.state = JobState::Running;
        record.worker = Some(self.worker.name.as_str().to_owned());
        record.attempt = 1;
        record.times.started = Some(self.started_ms);
        record.log_length = self.log.length();
        let Some(end) = self.end.get() else { return };
        record.state = end.state;
        record.times.ended = Some(end.at_ms);
        match &end.outcome {
            Ok(output) => cut(output).clone_into(&mut record.output),
            Err(error) => {
                record.cause = Some(Cause {
                    code: self
                        .timed_out()
                        .map_or(cause_code(end.state), |cause| &cause.code)
                        .to_owned(),
                    sentence: cut(error.reason()).to_owned(),
                });
            }
        }
    }

    /// The job's log.
    pub(crate) fn log(&self) -> &LogReader {
        &self.log
    }

    /// The registration of the worker that has the job.
    pub(crate) fn worker_id(&self) -> WorkerId {
        self.worker.id
    }

    /// The worker that has the job.
    pub(crate) fn worker_name(&self) -> &WorkerName {
        &self.worker.name
    }

    /// Waits for the job to end.
    pub(crate) async fn outcome(&self) -> Result<String, RpcError> {
        loop {
            // Registered before the look, so that an end in between is not missed.
            let over = self.over.notified();
            if let Some(end) = self.end.get() {
                return end.outcome.clone();
            }
            over.await;
        }
    }

    /// The job has ended, and whoever waits for that is told. Only the first end counts.
    pub(crate) fn end(&self, outcome: Result<String, RpcError>, state: JobState, at_ms: u64) {
        self.end.get_or_init(|| RunEnd {
            outcome,
            state,
            at_ms,
        });
        self.over.notify_waiters();
    }

    /// Tells the worker to stop the job. Nothing happens if it is over, or was told before.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// It has taken too long: the worker is told to stop it.
    pub(crate) fn time_out(&self, cause: Cause) {
        self.timed_out.get_or_init(|| cause);
        self.cancel();
    }

    /// Why it is stopped, if it took too long.
    pub(crate) fn timed_out(&self) -> Option<&Cause> {
        self.timed_out.get()
    }

    /// Whether the worker was told to stop the job.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Waits for somebody to cancel the job.
    pub(crate) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// To be cancelled if the worker gave its request up in the very moment it was given the job: it will never know of it then.
    pub(crate) fn lost_on_the_way(&self) -> CancellationToken {
        self.lost_on_the_way.clone()
    }

    /// Waits for the job to be lost on its way to the worker.
    pub(crate) async fn never_reached_the_worker(&self) {
        self.lost_on_the_way.cancelled().await;
    }

    /// A lost connection says whose it was: the text goes to people who never heard of this connection.
    pub(crate) fn explain_loss(&self, error: RpcError) -> RpcError {
        match error {
            RpcError::Disconnected(reason) => RpcError::Disconnected(format!(
                "{reason} (the scheduler lost the worker \"{}\" while it ran this job)",
                self.worker.name
            )),
            other => other,
        }
    }
}

/// What all references to a running job share: when the last one goes, the job is cancelled.
struct CancelOnRelease(Rc<Run>);

impl Drop for CancelOnRelease {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The first 64 KiB of a text from outside: records are kept in memory while they wait for the disk.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// The cause code of a job that ended in `state` for no special reason.
pub(crate) fn cause_code(state: JobState) -> &'static str {
    match state {
        JobState::Lost => "worker-lost",
        JobState::Cancelled => "cancelled",
        _ => "build-failed",
    }
}
