//! Durable jobs: submitted once, found again by their ids, and in nobody's keeping but the scheduler's.

use bytes::Bytes;
use futures::Stream;
use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::job_handle;
use ocluster_api::{JobSpec, JobSpecError};
use ocluster_cli::jobs::{Explanation, JobInfo, JobLimits};
use ocluster_vat::RpcError;
use thiserror::Error;

use crate::log;

/// A durable job to be submitted.
#[derive(Clone, Debug)]
pub struct DurableSpec {
    /// The pool it is to run in.
    pub pool: String,
    /// What is to be done.
    pub job: JobSpec,
    /// Whether it goes before all that are not urgent.
    pub urgent: bool,
    /// If not empty: the same job, submitted again under the same key, is the same job. A submission whose answer was lost can be
    /// repeated with it; a key that was used for another job is refused.
    pub key: String,
    /// How long it may take; none stands for the pool's defaults.
    pub limits: JobLimits,
}

/// Why a durable job was not accepted.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The description itself cannot be sent.
    #[error("the job cannot be sent: {0}")]
    Spec(#[from] JobSpecError),
    /// The scheduler refused it, or the connection was lost: then nobody knows whether it was accepted.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// A job with an id. Dropping this does nothing to the job, if it is a durable one.
#[derive(Clone)]
pub struct DurableJob {
    id: String,
    known: bool,
    handle: job_handle::Client,
}

impl DurableJob {
    pub(crate) fn new(id: String, known: bool, handle: job_handle::Client) -> Self {
        Self { id, known, handle }
    }

    /// The job's id, such as `j31n03`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it was there before: it was found, or its key had been used for this very job.
    #[must_use]
    pub fn known(&self) -> bool {
        self.known
    }

    /// The capability, for calls that this library has no words for.
    #[must_use]
    pub fn handle(&self) -> &job_handle::Client {
        &self.handle
    }

    /// Its record as it is now.
    ///
    /// # Errors
    /// When the scheduler does not give it, or the connection was lost.
    pub async fn info(&self) -> Result<JobInfo, RpcError> {
        let response = self.handle.info_request().send().promise.await?;
        Ok(JobInfo::read(response.get()?.get_info()?)?)
    }

    /// The log from byte `start` on, through all attempts, in the pieces in which the scheduler sends it. The stream waits for the job
    /// to start and to say something, and ends with the log. At most one piece is held in memory.
    pub fn log(&self, start: u64) -> impl Stream<Item = Result<Bytes, RpcError>> + use<> {
        log::log(self.job(), i64::try_from(start).unwrap_or(i64::MAX))
    }

    /// Waits until the job has ended, and gives its record. Cancelling the wait does nothing to the job.
    ///
    /// # Errors
    /// When the connection was lost.
    pub async fn ended(&self) -> Result<JobInfo, RpcError> {
        let response = self.handle.ended_request().send().promise.await?;
        Ok(JobInfo::read(response.get()?.get_info()?)?)
    }

    /// Waits for the job to end, and gives its output. Cancelling the wait does nothing to the job.
    ///
    /// # Errors
    /// When the job did not pass, or the connection was lost.
    pub async fn result(&self) -> Result<String, RpcError> {
        log::result(&self.job()).await
    }

    /// Cancels the job, be it queued or running, for this reason, which its record will tell. When this returns, the job will not
    /// pass any more, whatever happens to the scheduler.
    ///
    /// # Errors
    /// When the job has ended otherwise, or the connection was lost.
    pub async fn stop(&self, reason: &str) -> Result<(), RpcError> {
        let mut request = self.handle.stop_request();
        request.get().set_reason(reason);
        request.send().promise.await?;
        Ok(())
    }

    /// Asks why the job stands where it stands.
    ///
    /// # Errors
    /// When the connection was lost.
    pub async fn explain(&self) -> Result<Explanation, RpcError> {
        let response = self.handle.explain_request().send().promise.await?;
        Ok(Explanation::read(response.get()?.get_explanation()?)?)
    }

    /// As what every job is.
    fn job(&self) -> job::Client {
        job::Client {
            client: self.handle.client.clone(),
        }
    }
}
