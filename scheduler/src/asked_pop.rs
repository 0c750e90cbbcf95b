//! A worker's request for a job while it waits for its answer.

use std::rc::Rc;

use ocluster_scheduling::{Event, PopId};
use ocluster_vat::error as rpc_error;
use tokio::sync::oneshot;

use crate::job::Given;
use crate::state::Scheduler;

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
            given.run.lose_on_the_way();
        }
        if self.scheduler.forget_pop(self.pop) {
            self.scheduler.post(Event::PopWithdrawn { pop: self.pop });
        }
    }
}
