//! The objects that workers and clients see.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use capnp::capability::{Client, FromClientHook as _};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use ocluster_api::cluster_capnp::{job, queue, registration, submission, ticket};
use ocluster_vat::{
    Connection, RestoreError, Restorer, ServiceId, error as rpc_error, promised_cap,
};
use tokio::sync::oneshot;

use super::hub::{Hub, QueuedJob};

/// All pools, by name.
pub(super) type Pools = HashMap<String, Rc<Hub>>;

/// Finds what sturdy refs name.
pub(super) struct Services(pub(super) HashMap<[u8; 32], Service>);

/// What a sturdy ref may name.
pub(super) enum Service {
    Registration(Rc<Hub>),
    Submission(Rc<Pools>),
}

impl Restorer for Services {
    fn restore<'a>(
        &'a self,
        _: &'a Connection,
        id: &'a [u8],
    ) -> LocalBoxFuture<'a, Result<Client, RestoreError>> {
        let found = match self.0.get(&ServiceId::hash_of(id)) {
            None => Err(RestoreError::Unknown),
            Some(Service::Registration(hub)) => {
                let client: registration::Client =
                    capnp_rpc::new_client(RegistrationServer(hub.clone()));
                Ok(client.cast_to())
            }
            Some(Service::Submission(pools)) => {
                let client: submission::Client =
                    capnp_rpc::new_client(SubmissionServer(pools.clone()));
                Ok(client.cast_to())
            }
        };
        futures::future::ready(found).boxed_local()
    }
}

struct RegistrationServer(Rc<Hub>);

impl registration::Server for RegistrationServer {
    async fn register(
        self: Rc<Self>,
        _: registration::RegisterParams,
        mut results: registration::RegisterResults,
    ) -> capnp::Result<()> {
        let queue = capnp_rpc::new_client(QueueServer(self.0.clone()));
        results.get().set_queue(queue);
        Ok(())
    }
}

struct QueueServer(Rc<Hub>);

impl queue::Server for QueueServer {
    async fn pop(
        self: Rc<Self>,
        params: queue::PopParams,
        mut results: queue::PopResults,
    ) -> capnp::Result<()> {
        let job = params.get()?.get_job()?;
        let queued = self.0.pop().await?;
        let descr = queued.params().get()?.get_descr()?;
        results.get().set_descr(descr)?;
        queued.start(job);
        Ok(())
    }

    async fn set_active(
        self: Rc<Self>,
        _: queue::SetActiveParams,
        _: queue::SetActiveResults,
    ) -> capnp::Result<()> {
        Ok(())
    }
}

struct SubmissionServer(Rc<Pools>);

impl submission::Server for SubmissionServer {
    async fn submit(
        self: Rc<Self>,
        params: submission::SubmitParams,
        mut results: submission::SubmitResults,
    ) -> capnp::Result<()> {
        let pool = params.get()?.get_pool()?.to_str()?;
        let Some(hub) = self.0.get(pool) else {
            return Err(rpc_error::failed(format!(
                "Pool ID \"{pool}\" not recognised"
            )));
        };
        let (taken, job) = oneshot::channel();
        let cancelled = Rc::new(Cell::new(false));
        let job: job::Client = promised_cap(async move {
            job.await
                .map_err(|_| rpc_error::failed("The job was cancelled"))
        });
        let ticket = TicketServer {
            job,
            cancelled: cancelled.clone(),
        };
        results.get().set_ticket(capnp_rpc::new_client(ticket));
        hub.submit(QueuedJob::new(params, taken, cancelled));
        Ok(())
    }
}

struct TicketServer {
    job: job::Client,
    cancelled: Rc<Cell<bool>>,
}

impl ticket::Server for TicketServer {
    async fn job(
        self: Rc<Self>,
        _: ticket::JobParams,
        mut results: ticket::JobResults,
    ) -> capnp::Result<()> {
        results.get().set_job(self.job.clone());
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: ticket::CancelParams,
        _: ticket::CancelResults,
    ) -> capnp::Result<()> {
        self.cancelled.set(true);
        Ok(())
    }
}
