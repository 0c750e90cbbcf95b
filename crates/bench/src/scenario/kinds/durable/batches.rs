//! Durable no-op jobs in batches: submitted a thousand in a call, taken by workers that end them at once, until all are settled.

use anyhow::ensure;
use serde::Deserialize;

use super::straight::Straight;
use crate::durable_client::DurableClient;
use crate::leased::LeasedFleet;
use crate::meter::{Medians, Meter};
use crate::scenario::{FigureKind, Figures, Lab, Measure};

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batches {
    /// Workers, each with a connection of its own.
    workers: u32,
    /// Jobs that each of them runs at once.
    slots: u32,
    /// Jobs in a round.
    jobs: u32,
    /// Rounds. Before each, the same writes are made straight into a store.
    rounds: u32,
}

impl Measure for Batches {
    const NAME: &'static str = "durable-batches";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("jobs_per_second", "jobs/s"),
        FigureKind::new("scheduler_us_per_job", "us"),
        FigureKind::new("driver_us_per_job", "us"),
        FigureKind::new("store_jobs_per_second", "jobs/s"),
        FigureKind::new("store_us_per_job", "us"),
        FigureKind::new("cpu_of_store", "x"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let directory = lab.directory()?;
        let straight = Straight::new(directory.path()).await?;
        let site = lab.scheduler().await?;
        let fleet = LeasedFleet::join(&site.registration()?, self.workers, self.slots).await?;
        let client = DurableClient::connect(&site.submission(0)?, site.pool()).await?;
        // Connections, caches and code get warm.
        run(&client, &fleet, self.jobs / 10).await?;
        let mut medians = Medians::default();
        for _ in 0..self.rounds {
            let written = straight.write(self.jobs, self.workers, self.slots).await?;
            let meter = Meter::start(site.pid()?)?;
            run(&client, &fleet, self.jobs).await?;
            let spent = meter.read()?;
            let open = client.open_jobs().await?;
            ensure!(
                open == 0,
                "{open} jobs have not ended although all are settled"
            );
            let jobs = f64::from(self.jobs);
            written.compare(&spent, jobs, &mut medians);
        }
        let mut figures = Figures::default();
        medians.give(&mut figures)?;
        Ok(figures)
    }
}

/// Submits so many jobs while they are taken, and waits until all are settled.
async fn run(client: &DurableClient, fleet: &LeasedFleet, jobs: u32) -> anyhow::Result<()> {
    let all = fleet.settled() + u64::from(jobs);
    fleet.allow(usize::try_from(jobs)?);
    let (filled, settled) = tokio::join!(client.fill(jobs), fleet.until_settled(all));
    filled?;
    settled
}
