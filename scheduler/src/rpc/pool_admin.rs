//! `PoolAdmin` and `PoolAdminEndpoint`: one pool, as an operator sees and steers it.

use std::rc::Rc;

use ocluster_api::cluster_capnp::pool_admin;
use ocluster_api::extensions_capnp::pool_admin_endpoint;
use ocluster_scheduling::{
    AdminPause, ClientId, Event, PauseNote, PoolName, Rate, Refusal, WorkerName,
};
use ocluster_vat::error as rpc_error;

use super::caller::Caller;
use super::job_handle::one_line;
use super::progress::Reporter;
use super::{describe, job_info, update};
use crate::state::{ChangeError, Scheduler};

/// One pool's administration.
pub(crate) struct PoolAdminServer {
    scheduler: Rc<Scheduler>,
    pool: PoolName,
}

impl PoolAdminServer {
    pub(crate) fn new(scheduler: Rc<Scheduler>, pool: PoolName) -> Self {
        Self { scheduler, pool }
    }

    /// Makes a change that is to survive a restart, and waits until it does.
    async fn change(&self, event: Event) -> capnp::Result<()> {
        let changed = self.scheduler.handle_durably(event).await;
        changed.map_err(|error| rpc_error::failed(words(&error)))
    }

    fn set_admin_pause(&self, name: &WorkerName, active: bool, auto_create: bool) -> Event {
        Event::AdminActive {
            pool: self.pool.clone(),
            name: name.clone(),
            active,
            auto_create,
            pause: None,
        }
    }
}

/// What went wrong, in the words that upstream's admin tool prints, and scripts look for.
fn words(error: &ChangeError) -> String {
    match error {
        ChangeError::Refused(Refusal::StillConnected(name)) => {
            format!("Worker \"{name}\" is still connected!")
        }
        other => other.to_string(),
    }
}

impl pool_admin::Server for PoolAdminServer {
    async fn show(
        self: Rc<Self>,
        _: pool_admin::ShowParams,
        mut results: pool_admin::ShowResults,
    ) -> capnp::Result<()> {
        let now = self.scheduler.now();
        let state = self.scheduler.look(|cluster| cluster.show(&self.pool, now));
        // Upstream's text ends with a line feed, which its admin tool takes off again.
        let text = format!("{}\n", state.unwrap_or_default());
        results.get().set_state(&text);
        Ok(())
    }

    async fn workers(
        self: Rc<Self>,
        _: pool_admin::WorkersParams,
        mut results: pool_admin::WorkersResults,
    ) -> capnp::Result<()> {
        let known = self
            .scheduler
            .look(|cluster| cluster.known_workers(&self.pool))
            .unwrap_or_default();
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let mut list = results.get().init_workers(count);
        for (index, worker) in (0..).zip(known) {
            let mut info = list.reborrow().get(index);
            info.set_name(worker.name.as_str());
            info.set_active(worker.active);
            info.set_connected(worker.connected.is_some());
        }
        Ok(())
    }

    async fn set_active(
        self: Rc<Self>,
        params: pool_admin::SetActiveParams,
        _: pool_admin::SetActiveResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let name = WorkerName::from(params.get_worker()?.to_str()?);
        let event = self.set_admin_pause(&name, params.get_active(), params.get_auto_create());
        self.change(event).await
    }

    async fn worker(
        self: Rc<Self>,
        params: pool_admin::WorkerParams,
        mut results: pool_admin::WorkerResults,
    ) -> capnp::Result<()> {
        let name = WorkerName::from(params.get()?.get_worker()?.to_str()?);
        let session = self
            .scheduler
            .worker(&self.pool, &name)
            .ok_or_else(|| rpc_error::failed("Unknown worker"))?;
        results.get().set_worker(session.cap.clone());
        Ok(())
    }

    async fn update(
        self: Rc<Self>,
        params: pool_admin::UpdateParams,
        _: pool_admin::UpdateResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let name = WorkerName::from(params.get_worker()?.to_str()?);
        let reporter = Reporter::new(params.has_progress(), params.get_progress())?;
        update::update(&self.scheduler, &self.pool, &name, &reporter).await
    }

    async fn set_rate(
        self: Rc<Self>,
        params: pool_admin::SetRateParams,
        _: pool_admin::SetRateResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let client = ClientId::from(params.get_id()?.to_str()?);
        if !self.scheduler.clients().is_registered(&client) {
            return Err(rpc_error::failed("No such user"));
        }
        let rate =
            Rate::new(params.get_rate()).map_err(|error| rpc_error::failed(error.to_string()))?;
        let pool = self.pool.clone();
        self.change(Event::RateSet { pool, client, rate }).await
    }

    async fn forget(
        self: Rc<Self>,
        params: pool_admin::ForgetParams,
        _: pool_admin::ForgetResults,
    ) -> capnp::Result<()> {
        let name = WorkerName::from(params.get()?.get_worker()?.to_str()?);
        let pool = self.pool.clone();
        let unknown = format!("Worker \"{name}\" not known in this pool");
        let forgotten = Event::Forgotten { pool, name };
        match self.scheduler.handle_durably(forgotten).await {
            Ok(()) => Ok(()),
            Err(ChangeError::Refused(Refusal::UnknownWorker)) => Err(rpc_error::failed(unknown)),
            Err(other) => Err(rpc_error::failed(words(&other))),
        }
    }

    /// Pauses the worker and waits for its running jobs. Withdrawing the call stops the waiting, not the pause.
    async fn drain(
        self: Rc<Self>,
        params: pool_admin::DrainParams,
        _: pool_admin::DrainResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let name = WorkerName::from(params.get_worker()?.to_str()?);
        let reporter = Reporter::new(params.has_progress(), params.get_progress())?;
        let session = self.scheduler.worker(&self.pool, &name);
        self.change(self.set_admin_pause(&name, false, false))
            .await?;
        if session.is_none() && self.scheduler.jobs_away(&self.pool, &name) == 0 {
            reporter.report("Disconnected (nothing to drain)").await;
            return Ok(());
        }
        // A worker may go away with its jobs in the meantime, and come back with them.
        let mut session = session;
        loop {
            let cursor = self.scheduler.changes().since(0, None).cursor;
            if let Some(session) = &session {
                session
                    .until_idle(async |count| {
                        reporter.report(&format!("Running jobs: {count}")).await;
                    })
                    .await;
            }
            let away = self.scheduler.jobs_away(&self.pool, &name);
            if away == 0 {
                break;
            }
            reporter
                .report(&format!("Running jobs: {away} (the worker is away)"))
                .await;
            self.scheduler.changes().after(cursor).await;
            session = self.scheduler.worker(&self.pool, &name);
        }
        Ok(())
    }
}

impl pool_admin_endpoint::Server for PoolAdminServer {
    async fn pause(
        self: Rc<Self>,
        params: pool_admin_endpoint::PauseParams,
        _: pool_admin_endpoint::PauseResults,
    ) -> capnp::Result<()> {
        let event = {
            let params = params.get()?;
            let active = params.get_active();
            let by = PauseNote::new(params.get_by()?.to_str()?);
            let why = PauseNote::new(params.get_reason()?.to_str()?);
            let since_ms = self.scheduler.now_ms();
            Event::AdminActive {
                pool: self.pool.clone(),
                name: WorkerName::from(params.get_worker()?.to_str()?),
                active,
                auto_create: params.get_auto_create(),
                pause: (!active).then_some(AdminPause { by, why, since_ms }),
            }
        };
        self.change(event).await
    }

    async fn evict(
        self: Rc<Self>,
        params: pool_admin_endpoint::EvictParams,
        mut results: pool_admin_endpoint::EvictResults,
    ) -> capnp::Result<()> {
        let (name, reason) = {
            let params = params.get()?;
            let name = WorkerName::from(params.get_worker()?.to_str()?);
            (name, one_line(params.get_reason()?)?)
        };
        drop(params);
        let (scheduler, pool) = (self.scheduler.clone(), self.pool.clone());
        let evicted = async move { scheduler.evict(&pool, &name, &reason).await };
        let (moved, cancelled) = Caller::admin(self.scheduler.clone())
            .completely(evicted)
            .await??;
        let mut results = results.get();
        results.set_moved(moved);
        results.set_cancelled(cancelled);
        Ok(())
    }

    async fn describe(
        self: Rc<Self>,
        _: pool_admin_endpoint::DescribeParams,
        mut results: pool_admin_endpoint::DescribeResults,
    ) -> capnp::Result<()> {
        let workers = describe::workers(&self.scheduler, &self.pool);
        let length = job_info::list_length(&workers);
        let mut list = results.get().init_workers(length);
        for (index, worker) in (0..length).zip(&workers) {
            worker.write(list.reborrow().get(index));
        }
        Ok(())
    }
}
