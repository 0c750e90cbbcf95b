//! The scheduler of `support` with our extensions. Its jobs are `j31n03`, which runs on worker "busy" and is durable, and `j12`, which is
//! queued and lives as long as its client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::RefCell;
use std::rc::Rc;

use capnp::Error;
use capnp::capability::{Client, FromClientHook};
use ocluster_api::cluster_capnp::{admin, job, pool_admin};
use ocluster_api::extensions_capnp::{
    admin_endpoint, job_handle, job_info, job_query, pool_admin_endpoint,
};

use crate::support::{Admin, Pool, PoolAdmin, Scheduler, failed};

/// What `j31n03` has printed: more than fits into one answer.
const LOG: &str = "one\ntwo\nthree\nfour\n";
/// How much fits into one answer.
const PIECE: usize = 6;

/// Starts one whose pool has these workers.
pub(crate) fn start_modern(workers: &[&str]) -> Scheduler {
    Scheduler::serve(workers, None, admin)
}

fn admin(pool: Rc<Pool>) -> Client {
    let modern = Modern {
        frozen: Rc::new(Admin(pool.clone())),
        pool,
    };
    let admin: admin_endpoint::Client = capnp_rpc::new_client(modern);
    admin.client
}

struct Modern {
    frozen: Rc<Admin>,
    pool: Rc<Pool>,
}

impl admin::Server for Modern {
    async fn pools(
        self: Rc<Self>,
        params: admin::PoolsParams,
        results: admin::PoolsResults,
    ) -> Result<(), Error> {
        self.frozen.clone().pools(params, results).await
    }

    async fn pool(
        self: Rc<Self>,
        params: admin::PoolParams,
        mut results: admin::PoolResults,
    ) -> Result<(), Error> {
        if params.get()?.get_name()?.to_str()? != "linux" {
            return self.frozen.clone().pool(params, results).await;
        }
        let pool: pool_admin_endpoint::Client = capnp_rpc::new_client(ModernPool {
            frozen: Rc::new(PoolAdmin(self.pool.clone())),
            pool: self.pool.clone(),
        });
        results.get().set_pool(pool.client.cast_to());
        Ok(())
    }
}

impl admin_endpoint::Server for Modern {
    async fn features(
        self: Rc<Self>,
        _: admin_endpoint::FeaturesParams,
        mut results: admin_endpoint::FeaturesResults,
    ) -> Result<(), Error> {
        let mut features = results.get().init_features(3);
        for (place, feature) in (0..).zip(["jobs", "evict", "pause-notes"]) {
            features.set(place, feature);
        }
        Ok(())
    }

    async fn find(
        self: Rc<Self>,
        params: admin_endpoint::FindParams,
        mut results: admin_endpoint::FindResults,
    ) -> Result<(), Error> {
        let text = params.get()?.get_id()?.to_str()?;
        let fitting: Vec<&str> = ["j31n03", "j12"]
            .into_iter()
            .filter(|id| id.starts_with(text))
            .collect();
        match fitting[..] {
            [id] => {
                let handle = Handle {
                    id,
                    pool: self.pool.clone(),
                    reason: RefCell::default(),
                };
                results.get().set_id(id);
                results.get().set_handle(capnp_rpc::new_client(handle));
                Ok(())
            }
            [] => Err(failed(format!("there is no job {text:?}"))),
            _ => Err(failed(format!(
                "{text:?} is the beginning of several job ids: {}",
                fitting.join(", ")
            ))),
        }
    }

    async fn list(
        self: Rc<Self>,
        params: admin_endpoint::ListParams,
        mut results: admin_endpoint::ListResults,
    ) -> Result<(), Error> {
        let query = params.get()?.get_query()?;
        self.pool.log(asked(query)?);
        if query.get_client()?.to_str()? == "nobody" {
            return Ok(());
        }
        // Two jobs, and a page for each: whoever wants all has to ask twice.
        let id = match query.get_before()?.to_str()? {
            "" => "j31n03",
            _ => "j12",
        };
        fill(results.get().init_jobs(1).get(0), id, None);
        if id == "j31n03" {
            results.get().set_more(id);
        }
        Ok(())
    }

    async fn requeue(
        self: Rc<Self>,
        params: admin_endpoint::RequeueParams,
        mut results: admin_endpoint::RequeueResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let (id, reason) = (params.get_id()?.to_str()?, params.get_reason()?.to_str()?);
        if id != "j31n03" {
            return Err(failed(format!("job {id} is queued already")));
        }
        self.pool.log(format!("{id} is requeued ({reason})"));
        fill(results.get().init_info(), id, None);
        Ok(())
    }
}

/// What was wanted of a list.
fn asked(query: job_query::Reader<'_>) -> Result<String, Error> {
    let states: Vec<String> = query
        .get_states()?
        .iter()
        .map(|state| Ok(state?.to_string()?))
        .collect::<Result<_, Error>>()?;
    Ok(format!(
        "asked for {} jobs before {:?} in {states:?} of {:?} and {:?}",
        query.get_limit(),
        query.get_before()?.to_str()?,
        query.get_pool()?.to_str()?,
        query.get_client()?.to_str()?,
    ))
}

/// The times are a day in 2023.
const MORNING: u64 = 1_700_000_000_000;

fn fill(mut info: job_info::Builder<'_>, id: &str, cancelled: Option<&str>) {
    info.set_id(id);
    info.set_pool("linux");
    info.set_queued_at(MORNING);
    if id == "j31n03" {
        info.set_client("alice");
        info.set_kind("docker");
        info.set_state("running");
        info.set_attempt(2);
        info.set_worker("busy");
        info.set_started_at(MORNING + 60_000);
        info.set_log_length(LOG.len() as u64);
        info.set_durable(true);
    } else {
        info.set_client("bob");
        info.set_kind("obuilder");
        info.set_state("queued");
    }
    if let Some(reason) = cancelled {
        info.set_state("cancelled");
        info.set_cause_code("cancelled");
        info.set_cause_sentence(reason);
        info.set_ended_at(MORNING + 90_000);
    }
}

struct Handle {
    id: &'static str,
    pool: Rc<Pool>,
    reason: RefCell<Option<String>>,
}

impl job::Server for Handle {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> Result<(), Error> {
        let start = usize::try_from(params.get()?.get_start()).unwrap();
        if self.id != "j31n03" {
            // It has not begun.
            return std::future::pending().await;
        }
        let rest = LOG.as_bytes().get(start..).unwrap_or_default();
        let piece = rest.get(..PIECE).unwrap_or(rest);
        results.get().set_log(piece);
        results.get().set_next((start + piece.len()) as i64);
        Ok(())
    }
}

impl job_handle::Server for Handle {
    async fn info(
        self: Rc<Self>,
        _: job_handle::InfoParams,
        mut results: job_handle::InfoResults,
    ) -> Result<(), Error> {
        let reason = self.reason.borrow();
        fill(results.get().init_info(), self.id, reason.as_deref());
        Ok(())
    }

    async fn ended(
        self: Rc<Self>,
        _: job_handle::EndedParams,
        mut results: job_handle::EndedResults,
    ) -> Result<(), Error> {
        let mut info = results.get().init_info();
        fill(info.reborrow(), self.id, None);
        info.set_state("passed");
        Ok(())
    }

    async fn stop(
        self: Rc<Self>,
        params: job_handle::StopParams,
        _: job_handle::StopResults,
    ) -> Result<(), Error> {
        let reason = params.get()?.get_reason()?.to_string()?;
        self.pool.log(format!("{} is stopped ({reason})", self.id));
        // Names differ from machine to machine.
        let (_, why) = reason.split_once(": ").unwrap_or(("", "nobody said why"));
        *self.reason.borrow_mut() = Some(why.to_owned());
        Ok(())
    }

    async fn explain(
        self: Rc<Self>,
        _: job_handle::ExplainParams,
        mut results: job_handle::ExplainResults,
    ) -> Result<(), Error> {
        let mut explanation = results.get().init_explanation();
        explanation.set_summary(format!("Job {} waits for a worker.", self.id));
        let mut details = explanation.reborrow().init_details(2);
        details.set(0, "3 jobs come before it.");
        details.set(1, "busy runs as many jobs as it can.");
        fill(explanation.init_info(), self.id, None);
        Ok(())
    }
}

struct ModernPool {
    frozen: Rc<PoolAdmin>,
    pool: Rc<Pool>,
}

impl pool_admin::Server for ModernPool {
    async fn show(
        self: Rc<Self>,
        params: pool_admin::ShowParams,
        results: pool_admin::ShowResults,
    ) -> Result<(), Error> {
        self.frozen.clone().show(params, results).await
    }

    async fn workers(
        self: Rc<Self>,
        params: pool_admin::WorkersParams,
        results: pool_admin::WorkersResults,
    ) -> Result<(), Error> {
        self.frozen.clone().workers(params, results).await
    }

    async fn drain(
        self: Rc<Self>,
        params: pool_admin::DrainParams,
        results: pool_admin::DrainResults,
    ) -> Result<(), Error> {
        self.frozen.clone().drain(params, results).await
    }
}

impl pool_admin_endpoint::Server for ModernPool {
    async fn pause(
        self: Rc<Self>,
        params: pool_admin_endpoint::PauseParams,
        _: pool_admin_endpoint::PauseResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let name = params.get_worker()?.to_str()?;
        let (by, reason) = (params.get_by()?.to_str()?, params.get_reason()?.to_str()?);
        let active = params.get_active();
        let known = params.get_auto_create() || self.pool.set(name, active);
        if !known {
            return Err(failed("Unknown worker"));
        }
        assert!(by.starts_with("tester@"), "{by}");
        let what = if active { "unpaused" } else { "paused" };
        self.pool
            .log(format!("{name} is {what} by tester: {reason:?}"));
        Ok(())
    }

    async fn evict(
        self: Rc<Self>,
        params: pool_admin_endpoint::EvictParams,
        mut results: pool_admin_endpoint::EvictResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let (name, reason) = (
            params.get_worker()?.to_str()?,
            params.get_reason()?.to_str()?,
        );
        assert!(reason.contains("tester@"), "{reason}");
        self.pool.log(format!("{name} is emptied"));
        results.get().set_moved(1);
        results.get().set_cancelled(2);
        Ok(())
    }

    async fn describe(
        self: Rc<Self>,
        _: pool_admin_endpoint::DescribeParams,
        mut results: pool_admin_endpoint::DescribeResults,
    ) -> Result<(), Error> {
        let workers = self.pool.workers.borrow();
        let mut list = results.get().init_workers(workers.len() as u32);
        for (place, worker) in (0..).zip(workers.iter()) {
            let mut described = list.reborrow().get(place);
            described.set_name(&worker.name);
            described.set_connected(worker.connected);
            described.set_active(worker.active);
            described.set_capacity(2);
            if !worker.active {
                described.set_paused_by("alice@box");
                described.set_pause_reason("new disk");
                described.set_paused_at(MORNING);
                described
                    .reborrow()
                    .init_inactive_reasons(1)
                    .set(0, "admin pause");
            }
            // Only one of them says what it is.
            if worker.name == "busy" {
                described.set_running(1);
                described.set_queued(3);
                described.set_last_heard_ago(250);
                described.reborrow().init_jobs(1).set(0, "j31n03");
                let mut facts = described.init_facts();
                facts.set_version("1.2.3");
                facts.set_os("linux");
                facts.set_arch("x86_64");
                facts.set_kernel("6.1.0");
                facts.set_cpus(8);
                facts.set_memory(32 << 30);
                facts.set_disk(500 << 30);
                facts.set_disk_free(123 << 30);
                let mut kinds = facts.init_kinds(2);
                kinds.set(0, "docker");
                kinds.set(1, "obuilder");
            }
        }
        Ok(())
    }
}
