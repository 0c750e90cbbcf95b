//! `Queue`: a worker's place in a pool.

use std::rc::Rc;

use ocluster_api::cluster_capnp::queue;
use ocluster_api::extensions_capnp::{explained_queue, leased_queue};
use ocluster_scheduling::{Event, PauseNote};
use ocluster_vat::error as rpc_error;
use tracing::info;

use crate::durable::WorkerJob;
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// One worker's place.
pub(crate) struct QueueServer {
    scheduler: Rc<Scheduler>,
    session: Rc<WorkerSession>,
}

impl QueueServer {
    pub(crate) fn new(scheduler: Rc<Scheduler>, session: Rc<WorkerSession>) -> Self {
        Self { scheduler, session }
    }
}

impl queue::Server for QueueServer {
    /// Waits for a job. If the caller gives up, the request is withdrawn.
    async fn pop(
        self: Rc<Self>,
        params: queue::PopParams,
        mut results: queue::PopResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        if !params.has_job() {
            return Err(rpc_error::failed("Missing job!"));
        }
        let asked = self
            .scheduler
            .ask(self.session.id, WorkerJob::Plain(params.get_job()?))
            .map_err(|_| rpc_error::failed("Worker disconnected"))?;
        let given = asked.answer().await?;
        results.get().set_descr(given.descriptor.message().get()?)
    }

    async fn set_active(
        self: Rc<Self>,
        params: queue::SetActiveParams,
        _: queue::SetActiveResults,
    ) -> capnp::Result<()> {
        let worker = self.session.id;
        let event = if params.get()?.get_active() {
            Event::WorkerResumed { worker }
        } else {
            Event::WorkerPaused { worker, note: None }
        };
        self.scheduler
            .handle(event)
            .map_err(|refusal| rpc_error::failed(refusal.to_string()))
    }
}

impl explained_queue::Server for QueueServer {
    async fn set_inactive(
        self: Rc<Self>,
        params: explained_queue::SetInactiveParams,
        _: explained_queue::SetInactiveResults,
    ) -> capnp::Result<()> {
        let note = PauseNote::new(params.get()?.get_reason()?.to_str()?);
        if let Some(note) = &note {
            info!(pool = %self.session.pool, "Worker \"{}\" pauses: {note}", self.session.name);
        }
        let worker = self.session.id;
        self.scheduler
            .handle(Event::WorkerPaused { worker, note })
            .map_err(|refusal| rpc_error::failed(refusal.to_string()))
    }
}

impl leased_queue::Server for QueueServer {
    /// As `pop`, for workers that keep durable jobs while they are away.
    async fn pop_leased(
        self: Rc<Self>,
        params: leased_queue::PopLeasedParams,
        mut results: leased_queue::PopLeasedResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        if !params.has_job() {
            return Err(rpc_error::failed("Missing job!"));
        }
        let asked = self
            .scheduler
            .ask(self.session.id, WorkerJob::Leased(params.get_job()?))
            .map_err(|_| rpc_error::failed("Worker disconnected"))?;
        let given = asked.answer().await?;
        let mut results = results.get();
        if let Some(lease) = &given.lease {
            results.set_durable(true);
            results.set_id(lease.id.0);
            results.set_attempt(lease.attempt);
        }
        results.set_descr(given.descriptor.message().get()?)
    }
}

/// What all references to a queue share: when the last one goes, the worker has left the pool.
pub(crate) struct LeaveOnRelease {
    scheduler: Rc<Scheduler>,
    session: Rc<WorkerSession>,
}

impl LeaveOnRelease {
    pub(crate) fn new(scheduler: Rc<Scheduler>, session: Rc<WorkerSession>) -> Self {
        Self { scheduler, session }
    }
}

impl Drop for LeaveOnRelease {
    fn drop(&mut self) {
        self.scheduler.worker_left(&self.session);
    }
}
