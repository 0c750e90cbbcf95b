//! Workers that take leased jobs and end them at once, so that what a scheduler itself does for a durable job can be measured.
//!
//! This is the one place that knows how a worker asks for durable jobs and tells how they ended. A slot asks for its next job when the
//! last one is settled, as a worker of ours does. No job is asked for that was not allowed, so a queue can be drained by so many jobs.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{job, queue};
use ocluster_api::extensions_capnp::{leased_job, leased_queue, registration_endpoint};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::load::{NoMetrics, thread};

/// Jobs that take longer than this to settle, all of them together, are lost.
const STALL: Duration = Duration::from_secs(60);

/// Workers on a thread of their own, each with a key and a connection of its own. They leave when this is dropped.
pub(crate) struct LeasedFleet {
    gate: Arc<Gate>,
    _stay: DropGuard,
}

/// What the fleet's thread and its owner share.
struct Gate {
    /// Jobs that may still be asked for.
    allowed: Semaphore,
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Jobs that the scheduler has settled.
    settled: u64,
    /// Why nothing more will be.
    failed: Option<String>,
}

impl LeasedFleet {
    /// Joins the pool with so many workers, each of which runs so many jobs at once. They ask for none yet.
    ///
    /// # Errors
    /// If one of them cannot join.
    pub(crate) async fn join(pool: &SturdyRef, workers: u32, slots: u32) -> anyhow::Result<Self> {
        let gate = Arc::new(Gate {
            allowed: Semaphore::new(0),
            progress: watch::Sender::default(),
        });
        let stay = CancellationToken::new();
        let (joined, ready) = oneshot::channel();
        let fleet = {
            let (pool, gate, stay) = (pool.clone(), gate.clone(), stay.clone());
            thread::spawn("leased-workers", async move || {
                let mut all = Vec::new();
                for number in 1..=workers {
                    all.push(LeasedWorker::join(&pool, number, slots, &gate).await?);
                }
                // Whoever waited for it may have been told to stop.
                let _ = joined.send(());
                stay.cancelled().await;
                Ok(())
            })?
        };
        let stay = stay.drop_guard();
        tokio::select! {
            ended = fleet => { ended?; bail!("the workers left at once") }
            Ok(()) = ready => {}
        }
        Ok(Self { gate, _stay: stay })
    }

    /// Lets the workers take so many jobs more.
    pub(crate) fn allow(&self, jobs: usize) {
        self.gate.allowed.add_permits(jobs);
    }

    /// How many jobs have been settled so far.
    pub(crate) fn settled(&self) -> u64 {
        self.gate.progress.borrow().settled
    }

    /// Waits until so many jobs have been settled since the beginning.
    ///
    /// # Errors
    /// If a worker fails, or nothing is settled for a minute.
    pub(crate) async fn until_settled(&self, jobs: u64) -> anyhow::Result<()> {
        let mut progress = self.gate.progress.subscribe();
        loop {
            let before = {
                let now = progress.borrow_and_update();
                if let Some(why) = &now.failed {
                    bail!("a worker failed: {why}");
                }
                now.settled
            };
            if before >= jobs {
                return Ok(());
            }
            // Looked at now and then, and not for every job.
            let enough = progress.wait_for(|now| now.settled >= jobs || now.failed.is_some());
            if tokio::time::timeout(STALL, enough).await.is_err() && self.settled() == before {
                bail!("the scheduler has settled {before} jobs of {jobs}, and none for a minute");
            }
        }
    }
}

struct LeasedWorker {
    connection: Connection,
    _slots: JoinSet<()>,
}

impl Drop for LeasedWorker {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl LeasedWorker {
    async fn join(
        pool: &SturdyRef,
        number: u32,
        slots: u32,
        gate: &Arc<Gate>,
    ) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&pool.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let name = format!("leased-{number}");
        let queue = join(&connection, pool, &name, slots).await?;
        let mut running = JoinSet::new();
        for _ in 0..slots {
            let (queue, gate, name) = (queue.clone(), gate.clone(), name.clone());
            running.spawn_local(async move {
                if let Err(error) = work(&queue, &gate).await {
                    gate.progress
                        .send_modify(|now| now.failed = Some(format!("{name}: {error}")));
                }
            });
        }
        Ok(Self {
            connection,
            _slots: running,
        })
    }
}

/// Joins the pool over a connection, as an active worker with an identity that follows from its name.
///
/// # Errors
/// If the scheduler does not take it.
pub(crate) async fn join(
    connection: &Connection,
    pool: &SturdyRef,
    name: &str,
    slots: u32,
) -> anyhow::Result<leased_queue::Client> {
    let registration: registration_endpoint::Client = connection.bootstrap(&pool.id);
    let mut request = registration.join_request();
    let mut params = request.get();
    params.set_name(name);
    params.set_capacity(i32::try_from(slots)?);
    params.set_worker(capnp_rpc::new_client(NoMetrics));
    params.set_identity(format!("bench-identity-{name}").as_bytes());
    let answer = request.send().promise.await;
    let answer = answer.with_context(|| format!("cannot register {name}"))?;
    let queue = answer.get()?.get_queue()?;
    let frozen: queue::Client = queue.clone().cast_to();
    let mut active = frozen.set_active_request();
    active.get().set_active(true);
    active.send().promise.await?;
    Ok(queue)
}

/// Takes a job, ends it at once, and waits until it is settled.
///
/// # Errors
/// If the scheduler gives none, or drops it before.
pub(crate) async fn run_one(queue: &leased_queue::Client) -> capnp::Result<()> {
    let (settled, wait) = oneshot::channel();
    let job = NoOp(Cell::new(Some(settled)));
    let mut request = queue.pop_leased_request();
    request.get().set_job(capnp_rpc::new_client(job));
    let answer = request.send().promise.await?;
    if !answer.get()?.get_durable() {
        return Err(capnp::Error::failed("got a job that is not durable".into()));
    }
    drop(answer);
    wait.await
        .map_err(|_| capnp::Error::failed("a job was dropped before it was settled".into()))
}

/// Joins the pool as soon as somebody answers, and runs the first job that is given.
///
/// # Errors
/// If there is none in this time.
pub(crate) async fn first_job(pool: &SturdyRef, limit: Duration) -> anyhow::Result<()> {
    let vat = Vat::client_only(Stats::new());
    let trying = async {
        loop {
            let once = async {
                let connection = vat
                    .connect(&pool.address, &DialOptions::default(), &mut |_| {})
                    .await?;
                let queue = join(&connection, pool, "leased-first", 1).await?;
                anyhow::Ok(run_one(&queue).await?)
            };
            match once.await {
                Ok(()) => return,
                // Nobody may listen yet.
                Err(error) => tracing::debug!("no job yet: {error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let first = tokio::time::timeout(limit, trying).await;
    vat.disconnect_all("The measurement is over").await;
    first.context("no job was given in time")
}

/// Room for one job.
async fn work(queue: &leased_queue::Client, gate: &Gate) -> capnp::Result<()> {
    while let Ok(allowed) = gate.allowed.acquire().await {
        allowed.forget();
        run_one(queue).await?;
        gate.progress.send_modify(|now| now.settled += 1);
    }
    Ok(())
}

/// A job that has passed, with an empty log.
struct NoOp(Cell<Option<oneshot::Sender<()>>>);

impl job::Server for NoOp {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        results.get().set_next(params.get()?.get_start());
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        results.get().set_output("");
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        Ok(())
    }
}

impl leased_job::Server for NoOp {
    async fn outcome(
        self: Rc<Self>,
        _: leased_job::OutcomeParams,
        mut results: leased_job::OutcomeResults,
    ) -> capnp::Result<()> {
        results.get().init_outcome().set_state("passed");
        Ok(())
    }

    async fn settle(
        self: Rc<Self>,
        _: leased_job::SettleParams,
        _: leased_job::SettleResults,
    ) -> capnp::Result<()> {
        if let Some(settled) = self.0.take() {
            // The worker may have left.
            let _ = settled.send(());
        }
        Ok(())
    }
}
