//! What a scheduler's memory grows by for each worker that is connected, registered, and waits for a job.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use capnp::capability::FromClientHook as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use ocluster_api::cluster_capnp::{job, queue, registration, worker};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::memory::steady_kib;

/// Workers that connect at the same time.
const AT_ONCE: u32 = 50;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// Number of workers.
    pub workers: u32,
    /// Resident memory of the scheduler with one worker connected, in KiB.
    pub rss_before_kib: u64,
    /// The same with all of them.
    pub rss_with_kib: u64,
    /// The difference for each worker but the first, in KiB.
    pub kib_per_worker: f64,
    /// Time for all to connect and register, in seconds.
    pub connect_seconds: f64,
}

/// Connects `workers` workers to the pool, waits until the scheduler's memory is steady, and lets them go.
///
/// The first worker is there before the first look, so that what is needed once is not counted.
///
/// # Errors
/// If one cannot connect or register, or the process's memory cannot be read.
pub async fn measure(pool: &SturdyRef, pid: u32, workers: u32) -> anyhow::Result<Idle> {
    if workers < 2 {
        bail!("--workers must be at least 2: one is there before the first look");
    }
    let first = IdleWorker::join(pool, 0).await?;
    let rss_before_kib = steady_kib(pid).await?;
    let started = Instant::now();
    let mut joined = vec![first];
    let mut joining = FuturesUnordered::new();
    for number in 1..workers {
        joining.push(IdleWorker::join(pool, number));
        if joining.len() >= AT_ONCE as usize {
            joined.extend(joining.next().await.transpose()?);
        }
    }
    while let Some(worker) = joining.next().await {
        joined.push(worker?);
    }
    let connect_seconds = started.elapsed().as_secs_f64();
    let rss_with_kib = steady_kib(pid).await?;
    for worker in &joined {
        worker.check()?;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory in KiB is far below 2^52"
    )]
    let grown = rss_with_kib.saturating_sub(rss_before_kib) as f64;
    Ok(Idle {
        workers,
        rss_before_kib,
        rss_with_kib,
        kib_per_worker: grown / f64::from(workers - 1),
        connect_seconds,
    })
}

/// A worker that never gets a job.
pub(crate) struct IdleWorker {
    connection: Connection,
    _queue: queue::Client,
    waiting: JoinHandle<()>,
}

struct Silent;

impl worker::Server for Silent {}
impl job::Server for Silent {}

impl Drop for IdleWorker {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl IdleWorker {
    /// A worker with a key and a connection of its own, registered and waiting.
    async fn join(pool: &SturdyRef, number: u32) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&pool.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let registration: registration::Client = connection.bootstrap(&pool.id);
        let mut request = registration.register_request();
        request.get().set_name(format!("bench-idle-{number}"));
        request.get().set_capacity(1);
        request.get().set_worker(capnp_rpc::new_client(Silent));
        let answer = request
            .send()
            .promise
            .await
            .context("cannot register a worker")?;
        let queue = answer.get()?.get_queue()?;
        let mut pop = queue.pop_request();
        pop.get()
            .set_job(capnp_rpc::new_client::<job::Client, _>(Silent));
        let answer = pop.send().promise;
        // Any answer at all ends the wait, and shows in `check`.
        let waiting = tokio::task::spawn_local(async move { drop(answer.await) });
        // A round trip behind the request for work, so that the scheduler has it.
        ocluster_vat::ping(&queue.clone().cast_to()).await?;
        Ok(Self {
            connection,
            _queue: queue,
            waiting,
        })
    }

    /// Joins the pool as soon as somebody answers, and waits for the first job.
    pub(crate) async fn first_job(pool: &SturdyRef, limit: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            match Self::join(pool, 0).await {
                Ok(mut worker) => {
                    let left = limit.saturating_sub(started.elapsed());
                    tokio::time::timeout(left, &mut worker.waiting).await??;
                    if worker.connection.is_closed() {
                        bail!("the scheduler closed the connection of a worker");
                    }
                    return Ok(());
                }
                Err(error) if started.elapsed() > limit => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.connection.is_closed() {
            bail!("the scheduler closed the connection of an idle worker");
        }
        if self.waiting.is_finished() {
            bail!("an idle worker got a job: measure on a pool that nobody else uses");
        }
        Ok(())
    }
}
