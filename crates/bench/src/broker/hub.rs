//! Where jobs and workers meet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use ocluster_api::cluster_capnp::{job, submission};
use ocluster_vat::error as rpc_error;
use tokio::sync::oneshot;

/// A job that no worker has taken.
pub(super) struct QueuedJob {
    /// The message that submitted it, which holds its description.
    params: submission::SubmitParams,
    /// Who waits for the worker's end of it.
    taken: oneshot::Sender<job::Client>,
    cancelled: Rc<Cell<bool>>,
}

/// One pool: either jobs wait in it, or workers do.
#[derive(Default)]
pub(super) struct Hub {
    jobs: RefCell<VecDeque<QueuedJob>>,
    workers: RefCell<VecDeque<oneshot::Sender<QueuedJob>>>,
}

impl QueuedJob {
    pub(super) fn new(
        params: submission::SubmitParams,
        taken: oneshot::Sender<job::Client>,
        cancelled: Rc<Cell<bool>>,
    ) -> Self {
        Self {
            params,
            taken,
            cancelled,
        }
    }

    /// The message that submitted it.
    pub(super) fn params(&self) -> &submission::SubmitParams {
        &self.params
    }

    /// From now on, `job` is what it is.
    pub(super) fn start(self, job: job::Client) {
        // Nobody may have asked for it.
        drop(self.taken.send(job));
    }
}

impl Hub {
    /// Gives the job to the worker that has waited longest, or queues it.
    pub(super) fn submit(&self, mut job: QueuedJob) {
        loop {
            // The borrow ends before the job is sent.
            let worker = self.workers.borrow_mut().pop_front();
            let Some(worker) = worker else { break };
            match worker.send(job) {
                Ok(()) => return,
                Err(back) => job = back,
            }
        }
        self.jobs.borrow_mut().push_back(job);
    }

    /// The job that has waited longest, or the next to come.
    ///
    /// # Errors
    /// If the broker stops.
    pub(super) async fn pop(&self) -> capnp::Result<QueuedJob> {
        loop {
            let Some(job) = self.jobs.borrow_mut().pop_front() else {
                break;
            };
            if !job.cancelled.get() {
                return Ok(job);
            }
        }
        let (sender, receiver) = oneshot::channel();
        self.workers.borrow_mut().push_back(sender);
        let job = receiver.await;
        job.map_err(|_| rpc_error::failed("The broker stops"))
    }
}
