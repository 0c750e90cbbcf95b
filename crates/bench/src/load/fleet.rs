//! Simulated workers: each has a key, a connection and slots of its own, and its jobs take time or none, print a log or nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::LocalBoxFuture;
use ocluster_api::cluster_capnp::{job, queue, registration, worker};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::job_time::JobTime;
use super::thread;

/// The largest piece of a log in one answer, in bytes.
const LOG_CHUNK: usize = 128 * 1024;
/// Workers that connect at the same time.
const AT_ONCE: usize = 50;

/// What workers to have.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// Their names begin with this; a number follows.
    pub name: String,
    /// How many jobs each runs at once: as many workers as numbers.
    pub capacities: Vec<u32>,
    /// How long jobs take; none at all if there is no time.
    pub job_time: Option<JobTime>,
    /// How much each job prints, in bytes.
    pub log_bytes: usize,
}

/// Workers that wait for jobs, on a thread of their own. They leave when this is dropped.
pub struct Fleet {
    running: LocalBoxFuture<'static, anyhow::Result<()>>,
    leave: DropGuard,
}

impl Fleet {
    /// Connects and registers all workers, and has them ask for as many jobs as they can run.
    ///
    /// # Errors
    /// If one of them cannot.
    pub async fn join(pool: SturdyRef, plan: FleetPlan) -> anyhow::Result<Self> {
        let leave = CancellationToken::new();
        let guard = leave.clone().drop_guard();
        let (registered, ready) = oneshot::channel();
        let running = thread::spawn("workers", async move || {
            let mut workers = Workers::join(&pool, &plan).await?;
            let _ = registered.send(());
            tokio::select! {
                () = leave.cancelled() => workers.check(),
                error = workers.slots.join_next() => {
                    workers.check()?;
                    bail!("a worker stopped asking for jobs: {error:?}")
                }
            }
        })?;
        let mut running: LocalBoxFuture<'static, _> = Box::pin(running);
        tokio::select! {
            biased;
            Ok(()) = ready => {}
            ended = &mut running => ended?,
        }
        Ok(Self {
            running,
            leave: guard,
        })
    }

    /// Waits until a worker has lost its place, which it should not. Cancel safe.
    ///
    /// # Errors
    /// Always: why.
    pub async fn lost(&mut self) -> anyhow::Error {
        match (&mut self.running).await {
            Ok(()) => anyhow::anyhow!("the workers left"),
            Err(error) => error,
        }
    }

    /// Has all workers leave.
    ///
    /// # Errors
    /// If one of them lost its place before.
    pub async fn leave(self) -> anyhow::Result<()> {
        drop(self.leave);
        self.running.await
    }
}

struct Workers {
    connections: Vec<Connection>,
    slots: JoinSet<capnp::Result<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.disconnect("The measurement is over");
        }
    }
}

impl Workers {
    async fn join(pool: &SturdyRef, plan: &FleetPlan) -> anyhow::Result<Self> {
        let mut all = Self {
            connections: Vec::new(),
            slots: JoinSet::new(),
        };
        let behaviour = Rc::new(Behaviour {
            job_time: plan.job_time,
            log: vec![b'x'; plan.log_bytes].into(),
            started: Cell::new(0),
        });
        let numbered: Vec<(usize, u32)> = (1..).zip(plan.capacities.iter().copied()).collect();
        for some in numbered.chunks(AT_ONCE) {
            let joining = some.iter().map(|(number, capacity)| async move {
                let name = format!("{}-{number}", plan.name);
                let joined = register(pool, &name, *capacity).await;
                let joined = joined.with_context(|| format!("cannot register {name}"))?;
                anyhow::Ok((joined, *capacity))
            });
            for joined in futures::future::join_all(joining).await {
                let ((connection, queue), capacity) = joined?;
                all.connections.push(connection);
                let hints = Rc::new(RefCell::new(HashSet::new()));
                for place in 1..=capacity {
                    let slot = Slot {
                        queue: queue.clone(),
                        hints: hints.clone(),
                        behaviour: behaviour.clone(),
                        first: f64::from(place) / f64::from(capacity),
                    };
                    all.slots.spawn_local(slot.work());
                }
            }
        }
        Ok(all)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (number, connection) in (1..).zip(&self.connections) {
            if connection.is_closed() {
                bail!("the scheduler closed the connection of worker {number}");
            }
        }
        Ok(())
    }
}

/// Joins the pool as a worker of the frozen protocol, and makes it active.
///
/// # Errors
/// If it cannot connect, or is refused.
pub(crate) async fn register(
    pool: &SturdyRef,
    name: &str,
    capacity: u32,
) -> anyhow::Result<(Connection, queue::Client)> {
    let vat = Vat::client_only(Stats::new());
    let connection = vat
        .connect(&pool.address, &DialOptions::default(), &mut |_| {})
        .await?;
    let registration: registration::Client = connection.bootstrap(&pool.id);
    let mut request = registration.register_request();
    request.get().set_name(name);
    request.get().set_capacity(i32::try_from(capacity)?);
    request.get().set_worker(capnp_rpc::new_client(NoMetrics));
    let answer = request.send().promise.await?;
    let queue = answer.get()?.get_queue()?;
    let mut active = queue.set_active_request();
    active.get().set_active(true);
    active.send().promise.await?;
    Ok((connection, queue))
}

/// A worker that can do nothing but its jobs.
pub(crate) struct NoMetrics;

impl worker::Server for NoMetrics {}

/// What all jobs have in common.
struct Behaviour {
    job_time: Option<JobTime>,
    log: Rc<[u8]>,
    started: Cell<u32>,
}

/// Room for one job.
struct Slot {
    queue: queue::Client,
    /// Those that the worker has seen.
    hints: Rc<RefCell<HashSet<Vec<u8>>>>,
    behaviour: Rc<Behaviour>,
    /// The part of its time that its first job takes: a different one in each slot, so that they do not all become free at once ever
    /// after.
    first: f64,
}

impl Slot {
    /// Takes one job after the other. A job that takes time is over after that, and one that takes none when somebody asks for its
    /// result.
    async fn work(mut self) -> capnp::Result<()> {
        loop {
            let job = Rc::new(SimulatedJob {
                log: self.behaviour.log.clone(),
                ended: self.behaviour.job_time.map(|_| CancellationToken::new()),
                asked: Notify::new(),
            });
            let mut request = self.queue.pop_request();
            request
                .get()
                .set_job(capnp_rpc::new_client_from_rc(job.clone()));
            let answer = request.send().promise.await?;
            if let (Some(time), Some(ended)) = (self.behaviour.job_time, &job.ended) {
                let hint = answer.get()?.get_descr()?.get_cache_hint()?;
                let time = self.time(time, hint.as_bytes());
                drop(answer);
                tokio::time::sleep(time).await;
                ended.cancel();
            } else {
                drop(answer);
                job.asked.notified().await;
            }
        }
    }

    /// How long its next job takes.
    fn time(&mut self, time: JobTime, hint: &[u8]) -> Duration {
        let known = !self.hints.borrow_mut().insert(hint.to_vec());
        let number = self.behaviour.started.get();
        self.behaviour.started.set(number.wrapping_add(1));
        let part = std::mem::replace(&mut self.first, 1.0);
        time.of(number, known).mul_f64(part)
    }
}

/// A job that cannot be cancelled.
struct SimulatedJob {
    log: Rc<[u8]>,
    /// When it is over; at once if there is none.
    ended: Option<CancellationToken>,
    /// Somebody has asked for the result.
    asked: Notify,
}

impl SimulatedJob {
    async fn end(&self) {
        if let Some(ended) = &self.ended {
            ended.cancelled().await;
        }
    }
}

impl job::Server for SimulatedJob {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        let start = params.get()?.get_start();
        drop(params);
        let rest = usize::try_from(start)
            .ok()
            .and_then(|start| self.log.get(start..))
            .unwrap_or_default();
        if rest.is_empty() {
            self.end().await;
        }
        let chunk = rest.get(..LOG_CHUNK).unwrap_or(rest);
        let mut results = results.get();
        results.set_log(chunk);
        let length = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        results.set_next(start.saturating_add(length));
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        self.asked.notify_one();
        self.end().await;
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
