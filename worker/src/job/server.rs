//! `LeasedJob`, as the scheduler sees it: offered with a request for work, alive from the moment the request is answered.
//!
//! Calls that are waiting when the scheduler lets go of a job get their answers all the same.

use std::rc::{Rc, Weak};

use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::leased_job;
use ocluster_joblog::{LogReader, ReadError};
use ocluster_vat::{error as rpc_error, guarded_client};
use tokio::sync::watch;

use super::held::Held;
use super::outcome::{JobResult, Told};
use super::terms::{Control, References, Stopped};
use crate::executor::Outcome;

/// The largest piece of a log in one answer, in bytes.
const LOG_CHUNK: usize = 128 * 1024;

/// The worker's side of an offered job.
pub(crate) struct Offered {
    /// Set when the job starts. Empty again when it has been forgotten.
    pub(crate) log: watch::Sender<Option<LogReader>>,
    /// Set when the job has ended and its log is complete.
    pub(crate) outcome: watch::Sender<Option<JobResult>>,
    /// How long it lives.
    pub(crate) control: Rc<Control>,
    held: Weak<Held>,
}

impl Offered {
    /// One who answers for this job.
    pub(crate) fn server(&self) -> Rc<JobServer> {
        Rc::new(JobServer {
            log: self.log.subscribe(),
            outcome: self.outcome.subscribe(),
            control: self.control.clone(),
            held: self.held.clone(),
        })
    }
}

/// A job to offer to the scheduler: what travels, and what stays here. If it is leased it will be among `held`.
pub(crate) fn offer(held: &Rc<Held>) -> (leased_job::Client, Offered) {
    let offered = Offered {
        log: watch::Sender::new(None),
        outcome: watch::Sender::new(None),
        control: Control::new(),
        held: Rc::downgrade(held),
    };
    let references = References(offered.control.clone());
    (guarded_client(offered.server(), references), offered)
}

/// Answers for a job.
pub(crate) struct JobServer {
    log: watch::Receiver<Option<LogReader>>,
    outcome: watch::Receiver<Option<JobResult>>,
    control: Rc<Control>,
    held: Weak<Held>,
}

impl JobServer {
    /// How long the job lives.
    pub(crate) fn control(&self) -> &Rc<Control> {
        &self.control
    }

    /// Bytes of log there are.
    pub(crate) fn log_length(&self) -> u64 {
        self.log.borrow().as_ref().map_or(0, LogReader::length)
    }

    /// Waits until the job runs no longer.
    pub(crate) async fn ended(&self) {
        let mut outcome = self.outcome.clone();
        // A job that never said how it ended does not run either.
        let _ = outcome.wait_for(Option::is_some).await;
    }

    async fn read(&self, start: i64) -> capnp::Result<ocluster_joblog::Chunk> {
        let log = present(&self.log).await?;
        log.read(start, LOG_CHUNK)
            .await
            .map_err(|error| match error {
                ReadError::Broken { reason } => rpc_error::failed(reason),
                other => rpc_error::failed(other.to_string()),
            })
    }
}

impl job::Server for JobServer {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        let start = params.get()?.get_start();
        // Whoever forgets a job wants its log off the disk, and not only when its last reader has gone.
        let reading = self
            .control
            .forgotten()
            .run_until_cancelled(self.read(start));
        let chunk = reading.await.unwrap_or_else(|| Err(forgotten()))?;
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
        self.control.stop(Stopped::Asked);
        Ok(())
    }
}

impl leased_job::Server for JobServer {
    async fn outcome(
        self: Rc<Self>,
        _: leased_job::OutcomeParams,
        mut results: leased_job::OutcomeResults,
    ) -> capnp::Result<()> {
        let result = present(&self.outcome).await.ok();
        let told = match &result {
            Some(result) => Told::of(result, self.control.stopped()),
            None => Told::never_started(),
        };
        told.write(results.get().init_outcome(), self.log_length());
        Ok(())
    }

    async fn settle(
        self: Rc<Self>,
        _: leased_job::SettleParams,
        _: leased_job::SettleResults,
    ) -> capnp::Result<()> {
        // The references of an attached job say how long it is wanted.
        if !self.control.is_attached()
            && let Some(held) = self.held.upgrade()
        {
            held.forget(&self, Stopped::Asked);
        }
        Ok(())
    }
}

fn forgotten() -> capnp::Error {
    rpc_error::failed("the worker has forgotten this job")
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
