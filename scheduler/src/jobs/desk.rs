//! The desk where jobs are asked for by id.

use std::rc::Rc;

use bytes::Bytes;
use ocluster_scheduling::{ClientId, PoolName, WorkerName};
use ocluster_store::{JobId, StoreError};
use ocluster_vat::RpcError;

use super::{Asker, Explained, FindError, JobFilter, Shown, StopError, Submission, Submitted};
use crate::state::Scheduler;

impl Scheduler {
    /// Whether durable jobs are accepted: not with a key that the next start does not have.
    pub(crate) fn offers_durable_jobs(&self) -> bool {
        todo!()
    }

    /// Accepts durable jobs of a client, each for itself, and returns when all that were accepted are on disk.
    pub(crate) async fn submit_durable(
        self: &Rc<Self>,
        client: &ClientId,
        submissions: Vec<Submission>,
    ) -> Vec<Submitted> {
        let _ = (client, submissions);
        todo!()
    }

    /// Finds a job by its id or an unambiguous beginning of it, among those that the asker may see.
    pub(crate) async fn find_job(&self, asker: &Asker, text: &str) -> Result<JobId, FindError> {
        let _ = (asker, text);
        todo!()
    }

    /// The jobs that match, newest first, and where the next page begins if there is one.
    pub(crate) async fn list_jobs(
        &self,
        asker: &Asker,
        filter: &JobFilter,
    ) -> Result<(Vec<Shown>, Option<JobId>), StoreError> {
        let _ = (asker, filter);
        todo!()
    }

    /// Waits, at most half a minute, until jobs that match have changed since `cursor`, and gives them, the cursor to go on with, and
    /// whether changes were missed. 0 stands for now, and is answered at once.
    pub(crate) async fn watch_jobs(
        &self,
        asker: &Asker,
        filter: &JobFilter,
        cursor: u64,
    ) -> Result<(Vec<Shown>, u64, bool), StoreError> {
        let _ = (asker, filter, cursor);
        todo!()
    }

    /// A job as it is now.
    pub(crate) async fn show_job(&self, id: JobId) -> Result<Shown, FindError> {
        let _ = id;
        todo!()
    }

    /// Waits until the job has ended, and that is on disk.
    pub(crate) async fn job_ended(&self, id: JobId) -> Result<Shown, FindError> {
        let _ = id;
        todo!()
    }

    /// What `Job.result` answers for it: waits until it has ended.
    pub(crate) async fn job_result(&self, id: JobId) -> Result<String, RpcError> {
        let _ = id;
        todo!()
    }

    /// What `Job.log` answers for it: waits until there is a log, and a byte or the end of it.
    pub(crate) async fn read_job_log(
        &self,
        id: JobId,
        start: i64,
        max: usize,
    ) -> Result<(Bytes, u64), RpcError> {
        let _ = (id, start, max);
        todo!()
    }

    /// Cancels a job, for a reason in the words of whoever wants it; returns when that is on disk.
    pub(crate) async fn stop_job(
        self: &Rc<Self>,
        id: JobId,
        asker: &Asker,
        reason: &str,
    ) -> Result<(), StopError> {
        let _ = (id, asker, reason);
        todo!()
    }

    /// Takes a running durable job from its worker and queues it again.
    pub(crate) async fn requeue_job(
        self: &Rc<Self>,
        id: JobId,
        reason: &str,
    ) -> Result<Shown, StopError> {
        let _ = (id, reason);
        todo!()
    }

    /// Takes all jobs from a worker: durable ones are queued again, others cancelled. Gives how many of each.
    ///
    /// # Errors
    /// `Unknown worker` if the pool never saw one of that name.
    pub(crate) async fn evict(
        self: &Rc<Self>,
        pool: &PoolName,
        worker: &WorkerName,
        reason: &str,
    ) -> Result<(u32, u32), RpcError> {
        let _ = (pool, worker, reason);
        todo!()
    }

    /// Why the job stands where it stands.
    pub(crate) async fn explain_job(&self, id: JobId) -> Result<Explained, FindError> {
        let _ = id;
        todo!()
    }
}
