//! Workers that only take time: longer the first time that they see a cache hint, shorter afterwards.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ocluster_api::cluster_capnp::{job, queue, registration, worker};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many jobs each of the workers build1 to build5 runs at once: 352 together, as in OCluster's own stress program.
pub(super) const CAPACITIES: [u32; 5] = [32, 64, 64, 64, 128];

/// A job takes this many times less where its hint is known.
const CACHED_IS_FASTER: u32 = 60;

/// All workers, each with a key and a connection of its own.
pub(super) struct Fleet {
    workers: Vec<BusyWorker>,
}

struct BusyWorker {
    connection: Connection,
    slots: JoinSet<()>,
}

impl Drop for BusyWorker {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl Fleet {
    /// Registers the workers, and has each ask for as many jobs as it can run.
    pub(super) async fn join(pool: &SturdyRef, build_time: Duration) -> anyhow::Result<Self> {
        let mut workers = Vec::new();
        for (number, capacity) in (1..).zip(CAPACITIES) {
            workers.push(BusyWorker::join(pool, number, capacity, build_time).await?);
        }
        Ok(Self { workers })
    }

    /// Fails if the scheduler has let go of a worker.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for (number, worker) in (1..).zip(&mut self.workers) {
            if worker.connection.is_closed() || worker.slots.try_join_next().is_some() {
                bail!("the scheduler let go of the worker build{number}");
            }
        }
        Ok(())
    }
}

impl BusyWorker {
    async fn join(
        pool: &SturdyRef,
        number: u32,
        capacity: u32,
        build_time: Duration,
    ) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&pool.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let registration: registration::Client = connection.bootstrap(&pool.id);
        let mut request = registration.register_request();
        request.get().set_name(format!("build{number}"));
        request.get().set_capacity(i32::try_from(capacity)?);
        request.get().set_worker(capnp_rpc::new_client(NoMetrics));
        let answer = request.send().promise.await;
        let answer = answer.with_context(|| format!("cannot register build{number}"))?;
        let queue = answer.get()?.get_queue()?;
        let mut active = queue.set_active_request();
        active.get().set_active(true);
        active.send().promise.await?;
        let cache = Rc::new(RefCell::new(HashSet::new()));
        let mut slots = JoinSet::new();
        for place in 1..=capacity {
            let slot = Slot {
                first_time: build_time * place / capacity,
                queue: queue.clone(),
                cache: cache.clone(),
                build_time,
            };
            slots.spawn_local(async move {
                // However it ends, `check` sees that it has ended.
                let _ = slot.work().await;
            });
        }
        Ok(Self { connection, slots })
    }
}

struct NoMetrics;

impl worker::Server for NoMetrics {}

/// Room for one job.
struct Slot {
    queue: queue::Client,
    /// Hints that the worker has seen.
    cache: Rc<RefCell<HashSet<Vec<u8>>>>,
    build_time: Duration,
    /// How long its first job takes: a different time in each slot, so that they do not all become free at once ever after.
    first_time: Duration,
}

impl Slot {
    async fn work(self) -> capnp::Result<()> {
        let mut longest = self.first_time;
        loop {
            let ended = CancellationToken::new();
            let mut request = self.queue.pop_request();
            request
                .get()
                .set_job(capnp_rpc::new_client(TimedJob(ended.clone())));
            let answer = request.send().promise.await?;
            let hint = answer.get()?.get_descr()?.get_cache_hint()?;
            let is_new = self.cache.borrow_mut().insert(hint.as_bytes().to_vec());
            drop(answer);
            let time = if is_new {
                longest
            } else {
                self.build_time / CACHED_IS_FASTER
            };
            longest = self.build_time;
            tokio::time::sleep(time).await;
            ended.cancel();
        }
    }
}

/// A job whose log is empty and which cannot be cancelled.
struct TimedJob(CancellationToken);

impl job::Server for TimedJob {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        self.0.cancelled().await;
        results.get().set_next(params.get()?.get_start());
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        self.0.cancelled().await;
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
