//! A worker that joins a pool and waits for one job, to see when a scheduler gives it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{job, queue, registration, worker};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use tokio::task::JoinHandle;

/// A worker that asks for one job, and does nothing with it.
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
        // Any answer at all ends the wait.
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
}
