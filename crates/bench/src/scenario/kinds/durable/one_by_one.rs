//! Durable no-op jobs one by one, from end to end: submitted by one call each, taken by workers that end them at once, until their
//! clients are told that they have passed.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use serde::Deserialize;

use super::acceptance::ms;
use super::straight::Straight;
use crate::durable_client::{DurableClient, Taken};
use crate::leased::LeasedFleet;
use crate::meter::{Medians, Meter};
use crate::scenario::{FigureKind, Figures, Lab, Measure};

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneByOne {
    /// Workers, each with a connection of its own.
    workers: u32,
    /// Jobs that each of them runs at once.
    slots: u32,
    /// Connections of clients.
    clients: u32,
    /// Jobs that each of them has under way.
    in_flight: u32,
    /// Jobs in a round.
    jobs: u32,
    /// Rounds. Before each, the same writes are made straight into a store.
    rounds: u32,
}

impl Measure for OneByOne {
    const NAME: &'static str = "durable-one-by-one";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("jobs_per_second", "jobs/s"),
        FigureKind::new("scheduler_us_per_job", "us"),
        FigureKind::new("driver_us_per_job", "us"),
        FigureKind::new("accepted_p99_ms", "ms"),
        FigureKind::new("ended_median_ms", "ms"),
        FigureKind::new("ended_p99_ms", "ms"),
        FigureKind::new("store_jobs_per_second", "jobs/s"),
        FigureKind::new("store_us_per_job", "us"),
        FigureKind::new("cpu_of_store", "x"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let directory = lab.directory()?;
        let straight = Straight::new(directory.path()).await?;
        let site = lab.scheduler().await?;
        let fleet = LeasedFleet::join(&site.registration()?, self.workers, self.slots).await?;
        fleet.allow(usize::try_from(self.jobs * (self.rounds + 1))?);
        let mut clients = Vec::new();
        for number in 0..self.clients {
            let cap = site.submission(number)?;
            clients.push(DurableClient::connect(&cap, site.pool()).await?);
        }
        // Connections, caches and code get warm.
        self.run(&clients, "warm", self.jobs / 10).await?;
        let mut medians = Medians::default();
        let mut accepted = Histogram::<u64>::new(3)?;
        let mut ended = Histogram::<u64>::new(3)?;
        for round in 0..self.rounds {
            let tasks = self.clients * self.in_flight;
            let written = straight.write(self.jobs, tasks, 1).await?;
            let meter = Meter::start(site.pid()?)?;
            let taken = self
                .run(&clients, &format!("round-{round}"), self.jobs)
                .await?;
            let spent = meter.read()?;
            let jobs = f64::from(u32::try_from(taken.len())?);
            written.compare(&spent, jobs, &mut medians);
            for one in taken {
                accepted.record(u64::try_from(one.accepted.as_micros())?)?;
                ended.record(u64::try_from(one.ended.as_micros())?)?;
            }
        }
        let mut figures = Figures::default();
        medians.give(&mut figures)?;
        figures.add("accepted_p99_ms", ms(&accepted, 0.99));
        figures.add("ended_median_ms", ms(&ended, 0.5));
        figures.add("ended_p99_ms", ms(&ended, 0.99));
        Ok(figures)
    }
}

impl OneByOne {
    /// Runs so many jobs, with so many under way as there may be.
    async fn run(
        &self,
        clients: &[DurableClient],
        round: &str,
        jobs: u32,
    ) -> anyhow::Result<Vec<Taken>> {
        let shares = (0..).zip(clients).map(|(client, connection)| {
            let each = jobs / self.clients;
            stream::iter(0..each)
                .map(move |number| {
                    let key = format!("{round}-{client}-{number}");
                    async move { connection.run(&key, number).await }
                })
                .buffer_unordered(usize::try_from(self.in_flight).unwrap_or(usize::MAX))
        });
        stream::select_all(shares).try_collect().await
    }
}
