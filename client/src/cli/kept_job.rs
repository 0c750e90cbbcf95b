//! A durable job that is followed through lost connections: it is found again by its id, and what was asked is asked again.

use std::cell::RefCell;

use ocluster_cli::jobs::JobInfo;
use ocluster_cli::output;
use ocluster_vat::RpcError;

use super::access::Access;
use crate::DurableJob;

/// A job that the scheduler has, and the way to it.
pub(crate) struct KeptJob<'a> {
    access: &'a Access<'a>,
    job: RefCell<DurableJob>,
}

impl<'a> KeptJob<'a> {
    pub(crate) fn new(access: &'a Access<'a>, job: DurableJob) -> Self {
        Self {
            access,
            job: RefCell::new(job),
        }
    }

    /// The job's id.
    pub(crate) fn id(&self) -> String {
        self.job.borrow().id().to_owned()
    }

    /// The job over the present connection, which may be lost already.
    pub(crate) fn now(&self) -> DurableJob {
        self.job.borrow().clone()
    }

    /// Waits until the job has ended, and gives what its result was.
    pub(crate) async fn result(&self) -> Result<String, RpcError> {
        self.persist(async |job| job.result().await).await
    }

    /// Waits until the job has ended, and gives its record.
    pub(crate) async fn ended(&self) -> Result<JobInfo, RpcError> {
        self.persist(async |job| job.ended().await).await
    }

    /// Makes a call that may be made again until there is an answer to it.
    pub(crate) async fn persist<T>(
        &self,
        call: impl AsyncFn(&DurableJob) -> Result<T, RpcError>,
    ) -> Result<T, RpcError> {
        loop {
            let error = match call(&self.now()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.recover(error, || "Reconnected.".to_owned()).await?;
        }
    }

    /// Sees to it that a call which failed can be made again, and tells the user if it took a new connection; `told` is what to say
    /// then.
    ///
    /// # Errors
    /// When the call failed for another reason than a lost connection, or the job is not there any more.
    pub(crate) async fn recover(
        &self,
        error: RpcError,
        told: impl FnOnce() -> String,
    ) -> Result<(), RpcError> {
        if !error.is_disconnected() {
            return Err(error);
        }
        if !self.access.is_lost().await {
            match self.now().info().await {
                // Not our connection broke but what the job had: its worker, for good.
                Ok(info) if info.state.is_ended() => return Err(error),
                Ok(_) => {
                    self.access.pause().await;
                    return Ok(());
                }
                Err(other) if !other.is_disconnected() => return Err(other),
                Err(_) => self
                    .access
                    .client()
                    .connection()
                    .disconnect("not answering"),
            }
        }
        self.access.reconnect(&error).await;
        let id = self.id();
        loop {
            match self.access.client().find(&id).await {
                Ok(job) => {
                    self.job.replace(job);
                    output::complain(told());
                    return Ok(());
                }
                Err(error) if error.is_disconnected() => self.access.connect_again().await,
                Err(error) => return Err(error),
            }
        }
    }
}
