//! A worker's request for a job while it waits for its answer.

use std::rc::Rc;

use ocluster_api::Descriptor;
use ocluster_scheduling::{Event, JobId, PopId};
use ocluster_vat::error as rpc_error;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::state::Scheduler;

/// A job on its way to a worker.
pub(crate) struct Given {
    /// What the worker is to do.
    pub(crate) descriptor: Descriptor,
    /// By what a durable job is known to its worker.
    pub(crate) lease: Option<Lease>,
    /// To be cancelled if the worker never hears of it.
    pub(crate) lost: CancellationToken,
}

/// A durable job in the hands of a worker.
pub(crate) struct Lease {
    /// The job.
    pub(crate) id: JobId,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u32,
}

/// The answer to a worker's `pop`: a job, or the end of its registration.
pub(crate) type PopAnswer = capnp::Result<Given>;

/// A request for a job that waits for its answer. Dropping it withdraws the request.
pub(crate) struct AskedPop {
    scheduler: Rc<Scheduler>,
    pop: PopId,
    answer: oneshot::Receiver<PopAnswer>,
}

impl AskedPop {
    pub(crate) fn new(
        scheduler: Rc<Scheduler>,
        pop: PopId,
        answer: oneshot::Receiver<PopAnswer>,
    ) -> Self {
        Self {
            scheduler,
            pop,
            answer,
        }
    }

    /// Waits for the answer.
    pub(crate) async fn answer(mut self) -> PopAnswer {
        (&mut self.answer)
            .await
            .unwrap_or_else(|_| Err(rpc_error::failed("Worker disconnected")))
    }
}

impl Drop for AskedPop {
    fn drop(&mut self) {
        if let Ok(Ok(given)) = self.answer.try_recv() {
            given.lost.cancel();
        }
        if self.scheduler.forget_pop(self.pop) {
            self.scheduler.post(Event::PopWithdrawn { pop: self.pop });
        }
    }
}
