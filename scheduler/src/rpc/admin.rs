//! `Admin` and `AdminEndpoint`: the whole cluster with all its jobs, as an operator sees and steers it; and the giving out of access
//! to clients.

use std::rc::Rc;

use ocluster_api::cluster_capnp::{admin, submission};
use ocluster_api::extensions_capnp::{admin_endpoint, pool_admin_endpoint, submission_endpoint};
use ocluster_scheduling::{ClientId, Event, PoolName};
use ocluster_store::{Change, day_of_ms};
use ocluster_vat::{Address, ServiceId, SturdyRef, broken_cap, error as rpc_error};
use tracing::info;

use super::caller::Caller;
use super::job_handle::{new_job_handle, one_line};
use super::pool_admin::PoolAdminServer;
use super::{SubmissionServer, job_info};
use crate::state::Scheduler;

/// What is offered besides the frozen interface.
const FEATURES: [&str; 3] = ["jobs", "evict", "pause-notes"];

/// Makes clients' access objects, which know under which address they can be found again.
#[derive(Clone)]
pub(crate) struct ClientAccess {
    scheduler: Rc<Scheduler>,
    public: Address,
}

impl ClientAccess {
    pub(crate) fn new(scheduler: Rc<Scheduler>, public: Address) -> Self {
        Self { scheduler, public }
    }

    /// The access object behind a client's secret.
    pub(crate) fn submission(&self, client: ClientId, id: &ServiceId) -> submission::Client {
        let sturdy_ref = self.sturdy_ref(id);
        let server = SubmissionServer::new(self.scheduler.clone(), client, id, sturdy_ref);
        let endpoint: submission_endpoint::Client = capnp_rpc::new_client(server);
        capnp::capability::FromClientHook::cast_to(endpoint)
    }

    /// Gives `client` a new secret, which is on disk when this returns. Older ones stay valid.
    ///
    /// # Errors
    /// If there is no randomness, or the store cannot write.
    pub(crate) async fn grant(&self, client: &ClientId) -> anyhow::Result<ServiceId> {
        let id = ServiceId::random()?;
        let hash = id.hash();
        self.scheduler.clients().add(client, hash);
        let written = self.scheduler.records().commit(vec![Change::ClientAdded {
            hash,
            client: client.as_str().to_owned(),
            created_day: day_of_ms(self.scheduler.now_ms()),
        }]);
        if let Err(error) = written.await {
            // A secret that nobody was told must not keep the name.
            self.scheduler.clients().remove_secret(&hash);
            return Err(error.into());
        }
        info!("Created new submission endpoint for client \"{client}\"");
        Ok(id)
    }

    /// The sturdy ref that leads back to a service of ours.
    pub(crate) fn sturdy_ref(&self, id: &ServiceId) -> SturdyRef {
        SturdyRef::new(self.public.clone(), id.clone())
    }
}

/// The cluster's administration.
pub(crate) struct AdminServer {
    scheduler: Rc<Scheduler>,
    access: ClientAccess,
    caller: Caller,
}

impl AdminServer {
    pub(crate) fn new(scheduler: Rc<Scheduler>, access: ClientAccess) -> Self {
        let caller = Caller::admin(scheduler.clone());
        Self {
            scheduler,
            access,
            caller,
        }
    }
}

impl admin::Server for AdminServer {
    async fn pools(
        self: Rc<Self>,
        _: admin::PoolsParams,
        mut results: admin::PoolsResults,
    ) -> capnp::Result<()> {
        let names: Vec<PoolName> = self
            .scheduler
            .look(|cluster| cluster.pools().cloned().collect());
        let mut list = results
            .get()
            .init_names(u32::try_from(names.len()).unwrap_or(u32::MAX));
        for (index, name) in (0..).zip(&names) {
            list.set(index, name.as_str());
        }
        Ok(())
    }

    async fn pool(
        self: Rc<Self>,
        params: admin::PoolParams,
        mut results: admin::PoolResults,
    ) -> capnp::Result<()> {
        let pool = PoolName::from(params.get()?.get_name()?.to_str()?);
        let known = self
            .scheduler
            .look(|cluster| cluster.pools().any(|known| *known == pool));
        let pool_admin = if known {
            let server = PoolAdminServer::new(self.scheduler.clone(), pool);
            let endpoint: pool_admin_endpoint::Client = capnp_rpc::new_client(server);
            capnp::capability::FromClientHook::cast_to(endpoint)
        } else {
            broken_cap(rpc_error::failed("No such pool"))
        };
        results.get().set_pool(pool_admin);
        Ok(())
    }

    async fn add_client(
        self: Rc<Self>,
        params: admin::AddClientParams,
        mut results: admin::AddClientResults,
    ) -> capnp::Result<()> {
        let client = ClientId::from(params.get()?.get_id()?.to_str()?);
        if self.scheduler.clients().is_registered(&client) {
            return Err(rpc_error::failed(format!(
                "Client \"{client}\" already registered!"
            )));
        }
        let id = self
            .access
            .grant(&client)
            .await
            .map_err(|error| rpc_error::failed(error.to_string()))?;
        results.get().set_cap(self.access.submission(client, &id));
        Ok(())
    }

    async fn remove_client(
        self: Rc<Self>,
        params: admin::RemoveClientParams,
        _: admin::RemoveClientResults,
    ) -> capnp::Result<()> {
        let client = ClientId::from(params.get()?.get_id()?.to_str()?);
        if !self.scheduler.clients().remove(&client) {
            return Err(rpc_error::failed(format!("Unknown client \"{client}\"")));
        }
        info!("Removed client \"{client}\"");
        let written = self.scheduler.records().commit(vec![Change::ClientRemoved {
            client: client.as_str().to_owned(),
        }]);
        let removed = self.scheduler.handle(Event::ClientRemoved { client });
        written
            .await
            .map_err(|error| rpc_error::failed(error.to_string()))?;
        removed.map_err(|refusal| rpc_error::failed(refusal.to_string()))
    }

    async fn list_clients(
        self: Rc<Self>,
        _: admin::ListClientsParams,
        mut results: admin::ListClientsResults,
    ) -> capnp::Result<()> {
        let ids = self.scheduler.clients().ids();
        let mut list = results
            .get()
            .init_clients(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        for (index, id) in (0..).zip(&ids) {
            list.set(index, id.as_str());
        }
        Ok(())
    }
}

impl admin_endpoint::Server for AdminServer {
    async fn features(
        self: Rc<Self>,
        _: admin_endpoint::FeaturesParams,
        mut results: admin_endpoint::FeaturesResults,
    ) -> capnp::Result<()> {
        let length = job_info::list_length(&FEATURES);
        let mut features = results.get().init_features(length);
        for (index, feature) in (0..length).zip(FEATURES) {
            features.set(index, feature);
        }
        Ok(())
    }

    async fn find(
        self: Rc<Self>,
        params: admin_endpoint::FindParams,
        mut results: admin_endpoint::FindResults,
    ) -> capnp::Result<()> {
        let id = self.caller.find(params.get()?.get_id()?).await?;
        let mut results = results.get();
        results.set_handle(new_job_handle(self.caller.clone(), id));
        results.set_id(id.to_string());
        Ok(())
    }

    async fn list(
        self: Rc<Self>,
        params: admin_endpoint::ListParams,
        mut results: admin_endpoint::ListResults,
    ) -> capnp::Result<()> {
        let (jobs, more) = self.caller.list(params.get()?.get_query()?).await?;
        let mut results = results.get();
        let list = results.reborrow().init_jobs(job_info::list_length(&jobs));
        job_info::write_all(&jobs, list);
        if let Some(more) = more {
            results.set_more(more.to_string());
        }
        Ok(())
    }

    async fn requeue(
        self: Rc<Self>,
        params: admin_endpoint::RequeueParams,
        mut results: admin_endpoint::RequeueResults,
    ) -> capnp::Result<()> {
        let reason = one_line(params.get()?.get_reason()?)?;
        let id = self.caller.find(params.get()?.get_id()?).await?;
        drop(params);
        let scheduler = self.scheduler.clone();
        let requeued = async move { scheduler.requeue_job(id, &reason).await };
        let shown = self.caller.completely(requeued).await?;
        let shown = shown.map_err(|error| rpc_error::failed(error.to_string()))?;
        job_info::write(&shown, results.get().init_info());
        Ok(())
    }
}
