//! Workers that wait for jobs, and join again as ours do when their connection is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use capnp::capability::FromClientHook as _;
use ocluster_cli::Backoff;
use ocluster_vat::{DialOptions, Stats, SturdyRef, Vat};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::machine::Machine;
use crate::leased;
use crate::load::thread;

/// Threads with workers.
const THREADS: u32 = 2;
/// Workers of a thread that connect at once in the beginning, which is not measured.
const AT_ONCE: usize = 50;
/// How long joining may take.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// As our workers do: a scheduler that was silent for this long is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(4);
/// A scheduler that was silent for this long is taken for dead.
const PING_TIMEOUT: Duration = Duration::from_secs(12);

/// All workers, on threads of their own. They leave when this is dropped.
pub(super) struct Fleet {
    shared: Arc<Shared>,
    _stay: DropGuard,
}

struct Shared {
    /// How often a worker has joined.
    joins: watch::Sender<u64>,
    /// How often one could not.
    failures: AtomicU64,
    crashed: AtomicBool,
}

impl Fleet {
    /// Starts so many. They join one after the other.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(super) fn start(pool: &SturdyRef, workers: u32) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            joins: watch::Sender::default(),
            failures: AtomicU64::default(),
            crashed: AtomicBool::default(),
        });
        let stay = CancellationToken::new();
        for thread in 0..THREADS {
            let (pool, theirs, stay) = (pool.clone(), shared.clone(), stay.clone());
            let running = thread::spawn("idle-workers", async move || {
                let room = Arc::new(Semaphore::new(AT_ONCE));
                for number in (thread..workers).step_by(THREADS as usize) {
                    let (pool, shared, room) = (pool.clone(), theirs.clone(), room.clone());
                    tokio::task::spawn_local(async move {
                        live(&pool, number, &shared, &room).await;
                    });
                }
                stay.cancelled().await;
                Ok(())
            })?;
            let shared = shared.clone();
            tokio::task::spawn_local(async move {
                if running.await.is_err() {
                    shared.crashed.store(true, Ordering::Relaxed);
                }
            });
        }
        Ok(Self {
            shared,
            _stay: stay.drop_guard(),
        })
    }

    /// How often a worker has joined.
    pub(super) fn joins(&self) -> u64 {
        *self.shared.joins.borrow()
    }

    /// How often one could not.
    pub(super) fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Waits until workers have joined so often since the beginning.
    ///
    /// # Errors
    /// If that takes minutes.
    pub(super) async fn until_joined(&self, joins: u64) -> anyhow::Result<()> {
        let mut now = self.shared.joins.subscribe();
        let joined = now.wait_for(|now| *now >= joins);
        if tokio::time::timeout(LIMIT, joined).await.is_err() {
            bail!(
                "{} of {joins} have joined in {} s (crashed: {})",
                self.joins(),
                LIMIT.as_secs(),
                self.shared.crashed.load(Ordering::Relaxed)
            );
        }
        Ok(())
    }
}

/// A worker's life: it joins whenever it is not there.
async fn live(pool: &SturdyRef, number: u32, shared: &Shared, room: &Semaphore) {
    let vat = Vat::over(Arc::new(Machine::new(number)), Stats::new());
    let mut backoff = Backoff::new();
    // Only the first time: a storm is not to be a queue.
    let mut queued = room.acquire().await.ok();
    loop {
        let started = Instant::now();
        if let Err(error) = stay(&vat, pool, number, shared, &mut queued).await {
            tracing::debug!("idle-{number} could not join: {error:#}");
            shared.failures.fetch_add(1, Ordering::Relaxed);
        }
        queued = None;
        tokio::time::sleep(backoff.after(started.elapsed())).await;
    }
}

/// Joins and works until the connection is lost.
async fn stay(
    vat: &Vat,
    pool: &SturdyRef,
    number: u32,
    shared: &Shared,
    queued: &mut Option<SemaphorePermit<'_>>,
) -> anyhow::Result<()> {
    let options = DialOptions::default();
    let connection = vat
        .connect(&pool.address, &options, &mut |_| {})
        .await
        .context("cannot connect")?;
    let queue = leased::join(&connection, pool, &format!("idle-{number}"), 1).await?;
    shared.joins.send_modify(|joins| *joins += 1);
    *queued = None;
    let object = queue.clone().cast_to();
    let working = async { while leased::run_one(&queue).await.is_ok() {} };
    tokio::select! {
        _ = ocluster_vat::watch(&connection, &object, PING_INTERVAL, PING_TIMEOUT) => {}
        () = working => {}
    }
    connection.disconnect("The worker is leaving");
    Ok(())
}
