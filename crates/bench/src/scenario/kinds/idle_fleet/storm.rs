//! A large fleet that waits for jobs: what it costs a scheduler in memory, and how it comes back when the scheduler was killed.
//!
//! The workers join as ours do: with leases, asking for one job, listening for signs of life, and with the same waits before they connect
//! again. Each has a key, a connection, and an address of its own on loopback, as workers on machines of their own have.

use std::time::{Duration, Instant};

use anyhow::ensure;
use ocluster_cli::Backoff;
use ocluster_vat::SturdyRef;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, LIMIT};
use crate::durable_client::DurableClient;
use crate::load::thread;
use crate::memory::{processor_time, resident_kib};
use crate::meter::Meter;
use crate::scenario::{FigureKind, Figures, Lab, Measure, Site};

/// How often a new client comes while the workers are coming back.
const CLIENT_EVERY: Duration = Duration::from_millis(200);

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdleFleet {
    /// Workers.
    workers: u32,
    /// For how long they are left in peace, in seconds.
    seconds: u32,
}

impl Measure for IdleFleet {
    const NAME: &'static str = "idle-fleet";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("memory_mib", "MiB"),
        FigureKind::new("kib_per_worker", "KiB"),
        FigureKind::new("idle_cpu_percent", "%"),
        FigureKind::new("back_seconds", "s"),
        FigureKind::new("connects_per_second", "1/s"),
        FigureKind {
            name: "failed_connects",
            unit: "",
        },
        FigureKind::new("scheduler_us_per_connect", "us"),
        FigureKind::new("driver_us_per_connect", "us"),
        FigureKind {
            name: "clients_served",
            unit: "",
        },
        FigureKind {
            name: "clients_refused",
            unit: "",
        },
        FigureKind::new("client_longest_seconds", "s"),
        FigureKind::new("memory_back_mib", "MiB"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let mut site = lab.scheduler().await?;
        let mut figures = Figures::default();
        let alone = resident_kib(site.pid()?)?;
        let fleet = Fleet::start(&site.registration()?, self.workers)?;
        fleet.until_joined(self.workers.into()).await?;
        let peace = Duration::from_secs(self.seconds.into());
        // What the joining left to do is done first.
        tokio::time::sleep(peace / 2).await;
        let meter = Meter::start(site.pid()?)?;
        tokio::time::sleep(peace).await;
        let spent = meter.read()?;
        let share = spent.scheduler.as_secs_f64() / spent.time.as_secs_f64();
        let with = resident_kib(site.pid()?)?;
        figures.add("memory_mib", mib(with));
        figures.add(
            "kib_per_worker",
            mib(with.saturating_sub(alone)) * 1024.0 / f64::from(self.workers),
        );
        figures.add("idle_cpu_percent", share * 100.0);
        self.storm(&mut site, &fleet, &mut figures).await?;
        figures.add("memory_back_mib", mib(resident_kib(site.pid()?)?));
        Ok(figures)
    }
}

impl IdleFleet {
    /// Kills the scheduler, starts it again, and waits until everybody is back.
    async fn storm(
        &self,
        site: &mut Site,
        fleet: &Fleet,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let all = fleet.joins() + u64::from(self.workers);
        let cap = site.submission(0)?;
        site.kill()?;
        let driver = processor_time(std::process::id())?;
        let started = Instant::now();
        site.restart().await?;
        let up = Instant::now();
        let failures = fleet.failures();
        let over = CancellationToken::new();
        let clients = {
            let (pool, over) = (site.pool().to_owned(), over.clone());
            thread::spawn("clients", async move || Ok(come(&cap, &pool, &over).await))?
        };
        let back = async {
            let back = fleet.until_joined(all).await;
            over.cancel();
            back
        };
        let (back, served) = tokio::join!(back, clients);
        back?;
        let served = served?;
        let workers = f64::from(self.workers);
        let us = |time: Duration| time.as_secs_f64() * 1e6 / workers;
        figures.add("back_seconds", started.elapsed().as_secs_f64());
        figures.add("connects_per_second", workers / up.elapsed().as_secs_f64());
        // A process that has just started has used no time for anything else.
        figures.add("scheduler_us_per_connect", us(processor_time(site.pid()?)?));
        let driver = processor_time(std::process::id())?.saturating_sub(driver);
        figures.add("driver_us_per_connect", us(driver));
        let failures = fleet.failures() - failures;
        figures.add("failed_connects", f64::from(u32::try_from(failures)?));
        ensure!(served.served > 0, "no client was served meanwhile");
        figures.add("clients_served", f64::from(served.served));
        figures.add("clients_refused", f64::from(served.refused));
        figures.add("client_longest_seconds", served.longest.as_secs_f64());
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory in KiB is far below 2^52"
)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// What became of clients that came one after the other.
#[derive(Debug, Default)]
struct Served {
    served: u32,
    refused: u32,
    /// The longest time from the first try to connect to the acknowledgement of a submission.
    longest: Duration,
}

/// A client after the other: each connects with a key of its own, submits a job, and waits until that is acknowledged.
async fn come(cap: &SturdyRef, pool: &str, over: &CancellationToken) -> Served {
    let mut all = Served::default();
    let mut number = 0;
    while !over.is_cancelled() {
        let started = Instant::now();
        let mut backoff = Backoff::new();
        number += 1;
        loop {
            let once = async {
                let client = DurableClient::connect(cap, pool).await?;
                client.submit(&format!("storm-{number}"), number).await
            };
            match once.await {
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!("a client was not served: {error:#}");
                    all.refused += 1;
                    tokio::time::sleep(backoff.after(Duration::ZERO)).await;
                }
            }
            if started.elapsed() > LIMIT {
                return all;
            }
        }
        all.served += 1;
        all.longest = all.longest.max(started.elapsed());
        tokio::select! {
            () = tokio::time::sleep(CLIENT_EVERY.saturating_sub(started.elapsed())) => {}
            () = over.cancelled() => {}
        }
    }
    all
}
