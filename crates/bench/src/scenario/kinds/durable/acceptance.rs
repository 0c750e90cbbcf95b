//! How durable jobs are taken in, what they take in the queue, and how soon a scheduler that was killed is back with them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::stream::{self, FuturesUnordered, StreamExt as _};
use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::durable_client::DurableClient;
use crate::leased;
use crate::memory::resident_kib;
use crate::scenario::{FigureKind, Figures, Lab, Measure};

/// How long a scheduler may take to give the first job after it was started again.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// The share of a queue that is there before the memory of the rest is measured.
const BASE: u32 = 1000;

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acceptance {
    /// Jobs in the queue before the scheduler is killed and started again.
    queued: u32,
    /// Submissions under way at once while the rate is measured.
    at_once: u32,
    /// For how long the rate, and then the time of acknowledgements at a given rate, are measured, in seconds.
    seconds: u32,
    /// Submissions in a second while the time of acknowledgements is measured.
    rate: u32,
}

impl Measure for Acceptance {
    const NAME: &'static str = "durable-acceptance";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("accepted_per_second", "jobs/s"),
        FigureKind::new("ack_median_ms", "ms"),
        FigureKind::new("ack_p99_ms", "ms"),
        FigureKind::new("many_per_second", "jobs/s"),
        FigureKind::new("bytes_per_job", "B"),
        FigureKind::new("first_job_seconds", "s"),
        FigureKind::new("bytes_per_job_after", "B"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        ensure!(self.queued > BASE, "queued must be more than {BASE}");
        let mut figures = Figures::default();
        self.submissions(lab, &mut figures).await?;
        // With a store and a process of its own, so that what came before takes no part.
        self.queue(lab, &mut figures).await?;
        Ok(figures)
    }
}

impl Acceptance {
    async fn submissions(&self, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
        let site = lab.scheduler().await?;
        let client = DurableClient::connect(&site.submission(0)?, site.pool()).await?;
        let time = Duration::from_secs(u64::from(self.seconds));
        figures.add(
            "accepted_per_second",
            closed_loop(&client, self.at_once, time).await?,
        );
        let acks = open_loop(&client, "open", self.rate, time).await?;
        figures.add("ack_median_ms", ms(&acks, 0.5));
        figures.add("ack_p99_ms", ms(&acks, 0.99));
        Ok(())
    }

    async fn queue(&self, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
        let mut site = lab.scheduler().await?;
        let rest = self.queued - BASE;
        let (before, with) = {
            let client = DurableClient::connect(&site.submission(0)?, site.pool()).await?;
            client.fill(BASE).await?;
            let before = resident_kib(site.pid()?)?;
            let started = Instant::now();
            client.fill(rest).await?;
            figures.add(
                "many_per_second",
                f64::from(rest) / started.elapsed().as_secs_f64(),
            );
            (before, resident_kib(site.pid()?)?)
        };
        let registration = site.registration()?;
        site.kill()?;
        let started = Instant::now();
        site.begin()?;
        leased::first_job(&registration, RESTART_LIMIT).await?;
        figures.add("first_job_seconds", started.elapsed().as_secs_f64());
        let after = resident_kib(site.pid()?)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "memory in KiB is far below 2^52"
        )]
        let each = |kib: u64| kib.saturating_sub(before) as f64 * 1024.0 / f64::from(rest);
        figures.add("bytes_per_job", each(with));
        figures.add("bytes_per_job_after", each(after));
        Ok(())
    }
}

/// As many as are accepted, with so many under way. Gives how many that were in a second.
async fn closed_loop(client: &DurableClient, at_once: u32, time: Duration) -> anyhow::Result<f64> {
    let started = Instant::now();
    let numbers = (0..).take_while(|_| started.elapsed() < time);
    let submissions = stream::iter(numbers).map(async |number: u32| {
        client.submit(&format!("closed-{number}"), number).await?;
        anyhow::Ok(started.elapsed())
    });
    let mut answers = submissions.buffer_unordered(usize::try_from(at_once)?);
    let (mut accepted, mut last) = (0u32, Duration::ZERO);
    while let Some(answered) = answers.next().await {
        last = last.max(answered?);
        accepted += 1;
    }
    Ok(f64::from(accepted) / last.as_secs_f64())
}

/// At the given rate, whatever the answers take: the times count from when a submission was due.
pub(in crate::scenario::kinds) async fn open_loop(
    client: &DurableClient,
    name: &str,
    rate: u32,
    time: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let mut micros = Histogram::<u64>::new(3)?;
    let interval = Duration::from_secs(1) / rate.max(1);
    let mut ticks = tokio::time::interval(interval);
    let started = Instant::now();
    let mut under_way = FuturesUnordered::new();
    let mut number = 0;
    while started.elapsed() < time {
        tokio::select! {
            due = ticks.tick() => {
                let due = due.into_std();
                let key = format!("{name}-{number}");
                under_way.push(async move {
                    client.submit(&key, number).await?;
                    anyhow::Ok(due.elapsed())
                });
                number += 1;
            }
            Some(taken) = under_way.next() => micros.record(u64::try_from(taken?.as_micros())?)?,
        }
    }
    while let Some(taken) = under_way.next().await {
        micros.record(u64::try_from(taken?.as_micros())?)?;
    }
    Ok(micros)
}

/// A quantile in milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of one job are far below 2^52"
)]
pub(in crate::scenario::kinds) fn ms(micros: &Histogram<u64>, quantile: f64) -> f64 {
    micros.value_at_quantile(quantile) as f64 / 1000.0
}
