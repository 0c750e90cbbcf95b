//! Raw round trips: calls that do nothing, over TLS, to the bare broker. No scheduler on this RPC stack can be cheaper than the calls
//! that a job takes.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use ocluster_api::cluster_capnp::{queue, registration, worker};
use ocluster_vat::{DialOptions, Stats, SturdyRef, Vat};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::load::thread;
use crate::memory::processor_time;
use crate::pairs::median;
use crate::scenario::{FigureKind, Figures, Lab, Measure, Site};

/// How many calls there are at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Echo {
    /// Connections, half of them on each of two threads.
    connections: u32,
    /// Calls under way on each.
    in_flight: u32,
    /// How long to wait before measuring.
    warm_up_seconds: f64,
    /// How long to measure, in each round.
    seconds: f64,
    /// How often to measure.
    rounds: u32,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            connections: 20,
            in_flight: 16,
            warm_up_seconds: 0.5,
            seconds: 3.0,
            rounds: 3,
        }
    }
}

impl Measure for Echo {
    const NAME: &'static str = "echo";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("cpu_per_call", "us"),
        FigureKind::new("calls_per_second", "calls/s"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let (mut cpu, mut rate) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let (micros, per_second) = self.once(&lab.broker().await?).await?;
            cpu.push(micros);
            rate.push(per_second);
        }
        let mut figures = Figures::default();
        figures.add("cpu_per_call", median(cpu)?);
        figures.add("calls_per_second", median(rate)?);
        Ok(figures)
    }
}

impl Echo {
    /// Processor time of the broker for each call in microseconds, and calls in a second.
    async fn once(&self, site: &Site) -> anyhow::Result<(f64, f64)> {
        let pid = site.pid()?;
        let calls = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let mut callers = Vec::new();
        for half in [self.connections / 2, self.connections.div_ceil(2)] {
            let (cap, in_flight) = (site.registration()?, self.in_flight);
            let (calls, stop) = (calls.clone(), stop.clone());
            callers.push(thread::spawn("callers", async move || {
                tokio::select! {
                    ended = call(&cap, half, in_flight, &calls) => ended,
                    () = stop.cancelled() => Ok(()),
                }
            })?);
        }
        tokio::time::sleep(Duration::try_from_secs_f64(self.warm_up_seconds)?).await;
        let (calls_before, processor_before) =
            (calls.load(Ordering::Relaxed), processor_time(pid)?);
        let started = Instant::now();
        tokio::time::sleep(Duration::try_from_secs_f64(self.seconds)?).await;
        let made = u32::try_from(calls.load(Ordering::Relaxed) - calls_before)?;
        let seconds = started.elapsed().as_secs_f64();
        let processor = processor_time(pid)?.saturating_sub(processor_before);
        stop.cancel();
        for caller in callers {
            caller.await?;
        }
        ensure!(made > 0, "no call was answered");
        let made = f64::from(made);
        Ok((processor.as_secs_f64() * 1e6 / made, made / seconds))
    }
}

struct Nobody;

impl worker::Server for Nobody {}

/// Calls without end, on so many connections.
async fn call(
    cap: &SturdyRef,
    connections: u32,
    in_flight: u32,
    calls: &Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut tasks: JoinSet<capnp::Result<()>> = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..connections {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let registration: registration::Client = connection.bootstrap(&cap.id);
        let mut request = registration.register_request();
        request.get().set_name("echo");
        request.get().set_capacity(1);
        request.get().set_worker(capnp_rpc::new_client(Nobody));
        let answer = request.send().promise.await?;
        let queue = Rc::new(answer.get()?.get_queue()?);
        open.push(connection);
        for _ in 0..in_flight {
            let (queue, calls) = (queue.clone(), calls.clone());
            tasks.spawn_local(async move { echo(&queue, &calls).await });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn echo(queue: &queue::Client, calls: &AtomicU64) -> capnp::Result<()> {
    loop {
        let mut request = queue.set_active_request();
        request.get().set_active(true);
        request.send().promise.await?;
        calls.fetch_add(1, Ordering::Relaxed);
    }
}
