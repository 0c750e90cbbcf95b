//! `Job`, as the scheduler sees it: offered with a request for work, alive from the moment the request is answered.
//!
//! The scheduler's references keep the job. When the last one goes, by release or with the connection, the job is cancelled; calls
//! that are still waiting get their answers all the same.

use std::rc::Rc;

use ocluster_api::cluster_capnp::job;
use ocluster_joblog::{LogReader, ReadError};
use ocluster_vat::{error as rpc_error, guarded_client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::executor::Outcome;

/// The largest piece of a log in one answer, in bytes.
const LOG_CHUNK: usize = 128 * 1024;

/// The worker's side of an offered job.
pub(crate) struct Offered {
    /// Set when the job starts.
    pub(crate) log: watch::Sender<Option<LogReader>>,
    /// Set when the job has ended and its log is complete.
    pub(crate) outcome: watch::Sender<Option<JobResult>>,
    /// Fires when the job is to stop.
    pub(crate) cancel: CancellationToken,
}

/// What `Job.result` answers.
#[derive(Clone, Debug)]
pub(crate) enum JobResult {
    /// The executor's word.
    Outcome(Outcome),
    /// The executor panicked.
    Crashed,
}

/// A job to offer to the scheduler: what travels, and what stays here.
pub(crate) fn offer() -> (job::Client, Offered) {
    let offered = Offered {
        log: watch::Sender::new(None),
        outcome: watch::Sender::new(None),
        cancel: CancellationToken::new(),
    };
    let server = JobServer {
        log: offered.log.subscribe(),
        outcome: offered.outcome.subscribe(),
        cancel: offered.cancel.clone(),
    };
    let guard = offered.cancel.clone().drop_guard();
    (guarded_client(Rc::new(server), guard), offered)
}

struct JobServer {
    log: watch::Receiver<Option<LogReader>>,
    outcome: watch::Receiver<Option<JobResult>>,
    cancel: CancellationToken,
}

impl job::Server for JobServer {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        let start = params.get()?.get_start();
        let log = present(&self.log).await?;
        let chunk = log
            .read(start, LOG_CHUNK)
            .await
            .map_err(|error| match error {
                ReadError::Broken { reason } => rpc_error::failed(reason),
                other => rpc_error::failed(other.to_string()),
            })?;
        let mut results = results.get();
        results.set_log(&chunk.data);
        results.set_next(i64::try_from(chunk.next).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        match present(&self.outcome).await? {
            JobResult::Outcome(Outcome::Succeeded { output }) => {
                results.get().set_output(&output);
                Ok(())
            }
            JobResult::Outcome(Outcome::Failed(_)) => Err(rpc_error::failed("Build failed")),
            JobResult::Outcome(Outcome::Cancelled) => Err(rpc_error::failed("Build cancelled")),
            JobResult::Crashed => Err(rpc_error::failed("Internal error")),
        }
    }

    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        self.cancel.cancel();
        Ok(())
    }
}

/// Waits for a value to be there.
async fn present<T: Clone>(slot: &watch::Receiver<Option<T>>) -> capnp::Result<T> {
    let mut slot = slot.clone();
    let value = slot
        .wait_for(Option::is_some)
        .await
        .map_err(|_| rpc_error::failed("The job was never started"))?;
    match &*value {
        Some(value) => Ok(value.clone()),
        None => Err(rpc_error::failed("The job was never started")),
    }
}
