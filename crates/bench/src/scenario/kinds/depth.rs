//! Whether a deep queue costs more than a shallow one: how fast it is drained, and how long a submission waits.
//!
//! The jobs are durable, because a million of them is what a scheduler of ours keeps; those of the frozen protocol would need a million
//! open calls of clients, whose memory would be measured instead. Two schedulers are filled, one with many jobs and one with few, and
//! drained in turns by as many jobs each, so that whatever else the machine does meets both alike. Between the turns they are topped up.

use std::cell::Cell;
use std::time::Duration;

use anyhow::ensure;
use serde::Deserialize;

use super::durable::{ms, open_loop};
use crate::durable_client::DurableClient;
use crate::leased::LeasedFleet;
use crate::meter::{Medians, Meter, Spent};
use crate::scenario::{FigureKind, Figures, Lab, Measure, Site};

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Depth {
    /// Jobs in the deep queue.
    deep: u32,
    /// Jobs in the shallow one.
    shallow: u32,
    /// Workers of each scheduler.
    workers: u32,
    /// Jobs that each of them runs at once.
    slots: u32,
    /// Jobs by which a queue is drained in a turn; at most as many as are in the shallow one.
    jobs: u32,
    /// Pairs of turns.
    pairs: u32,
    /// Submissions in a second to the deep queue.
    rate: u32,
    /// For how long, in seconds.
    seconds: u32,
}

impl Measure for Depth {
    const NAME: &'static str = "depth";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("drain_ratio", "x"),
        FigureKind::new("deep_jobs_per_second", "jobs/s"),
        FigureKind::new("shallow_jobs_per_second", "jobs/s"),
        FigureKind::new("deep_scheduler_us_per_job", "us"),
        FigureKind::new("shallow_scheduler_us_per_job", "us"),
        FigureKind::new("submit_median_ms", "ms"),
        FigureKind::new("submit_p99_ms", "ms"),
        FigureKind::new("submit_max_ms", "ms"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        ensure!(
            self.jobs <= self.shallow && self.shallow <= self.deep,
            "jobs must be at most shallow, and shallow at most deep"
        );
        let (deep, shallow) = (lab.scheduler().await?, lab.scheduler().await?);
        ensure!(
            deep.pid()? != shallow.pid()?,
            "this scenario needs two schedulers: give a program with --scheduler instead of --pid"
        );
        let deep = self.queue(deep, self.deep).await?;
        let shallow = self.queue(shallow, self.shallow).await?;
        let time = Duration::from_secs(u64::from(self.seconds));
        let mut figures = Figures::default();
        let waits = open_loop(&deep.client, "at-depth", self.rate, time).await?;
        figures.add("submit_median_ms", ms(&waits, 0.5));
        figures.add("submit_p99_ms", ms(&waits, 0.99));
        figures.add("submit_max_ms", ms(&waits, 1.0));
        // Connections, caches and code get warm.
        deep.drain(self.jobs / 10).await?;
        shallow.drain(self.jobs / 10).await?;
        let mut medians = Medians::default();
        let jobs = f64::from(self.jobs);
        for pair in 0..self.pairs {
            deep.top_up().await?;
            shallow.top_up().await?;
            let (in_deep, in_shallow) = if pair % 2 == 0 {
                let in_deep = deep.drain(self.jobs).await?;
                (in_deep, shallow.drain(self.jobs).await?)
            } else {
                let in_shallow = shallow.drain(self.jobs).await?;
                (deep.drain(self.jobs).await?, in_shallow)
            };
            medians.add(
                "drain_ratio",
                in_shallow.time.as_secs_f64() / in_deep.time.as_secs_f64(),
            );
            medians.add("deep_jobs_per_second", in_deep.per_second(jobs));
            medians.add("shallow_jobs_per_second", in_shallow.per_second(jobs));
            medians.add("deep_scheduler_us_per_job", in_deep.scheduler_us(jobs));
            medians.add(
                "shallow_scheduler_us_per_job",
                in_shallow.scheduler_us(jobs),
            );
        }
        medians.give(&mut figures)?;
        Ok(figures)
    }
}

impl Depth {
    async fn queue(&self, site: Site, jobs: u32) -> anyhow::Result<Queue> {
        let client = DurableClient::connect(&site.submission(0)?, site.pool()).await?;
        client.fill(jobs).await?;
        let fleet = LeasedFleet::join(&site.registration()?, self.workers, self.slots).await?;
        Ok(Queue {
            client,
            fleet,
            site,
            replaced: Cell::new(0),
        })
    }
}

/// A scheduler with jobs in its queue, and workers that wait to be let at them.
struct Queue {
    // Dropped in this order: everybody leaves before the scheduler does.
    client: DurableClient,
    fleet: LeasedFleet,
    site: Site,
    /// Jobs that were queued in place of drained ones.
    replaced: Cell<u64>,
}

impl Queue {
    /// Queues as many jobs as were drained.
    async fn top_up(&self) -> anyhow::Result<()> {
        let drained = self.fleet.settled();
        let missing = drained - self.replaced.replace(drained);
        self.client.fill(u32::try_from(missing)?).await
    }

    /// Has the workers take so many jobs, until all of those are settled.
    async fn drain(&self, jobs: u32) -> anyhow::Result<Spent> {
        let all = self.fleet.settled() + u64::from(jobs);
        let meter = Meter::start(self.site.pid()?)?;
        self.fleet.allow(usize::try_from(jobs)?);
        self.fleet.until_settled(all).await?;
        meter.read()
    }
}
