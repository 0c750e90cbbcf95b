//! Workers and clients that keep a scheduler busy with jobs that do nothing, or little; the bare broker is measured in turns with it.

use std::time::Duration;

use anyhow::ensure;
use serde::Deserialize;

use crate::load::{CrowdPlan, FleetPlan, JobTime, Pace, Steady, SteadyLoad};
use crate::pairs::median;
use crate::scenario::{FigureKind, Figures, Lab, Measure, Site};

/// Who does what, and how often.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Load {
    /// Workers, each with a connection of its own.
    pub(super) workers: u32,
    /// Jobs that each runs at once.
    capacity: u32,
    /// Clients, each with a connection of its own.
    clients: u32,
    /// Jobs that each client has under way.
    in_flight: u32,
    /// Jobs that each client submits in a second, in place of having so many under way.
    per_second: Option<f64>,
    /// How long a job takes.
    job_time: Option<JobTime>,
    /// How much it prints, in bytes.
    log_bytes: usize,
    /// Among how many cache hints jobs are divided.
    hints: u32,
    /// How long its description is, in bytes.
    descr_bytes: usize,
    /// How long to wait before measuring.
    warm_up_seconds: f64,
    /// How long to measure, in each round.
    seconds: f64,
    /// How often to measure each.
    pub(super) rounds: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            workers: 16,
            capacity: 4,
            clients: 4,
            in_flight: 64,
            per_second: None,
            job_time: None,
            log_bytes: 0,
            hints: 100,
            descr_bytes: 300,
            warm_up_seconds: 1.0,
            seconds: 4.0,
            rounds: 3,
        }
    }
}

impl Load {
    /// Measures once, with so many workers.
    pub(super) async fn once(&self, site: &Site, workers: u32) -> anyhow::Result<Steady> {
        let pace = match self.per_second {
            Some(per_second) => Pace::Open(per_second),
            None => Pace::Closed(self.in_flight),
        };
        let load = SteadyLoad {
            fleet: FleetPlan {
                name: "bench".to_owned(),
                capacities: vec![self.capacity; workers as usize],
                job_time: self.job_time,
                log_bytes: self.log_bytes,
            },
            crowd: CrowdPlan {
                pool: site.pool().to_owned(),
                caps: (0..self.clients)
                    .map(|number| site.submission(number))
                    .collect::<anyhow::Result<_>>()?,
                pace,
                hints: self.hints,
                descr_bytes: self.descr_bytes,
                ask_ahead: true,
                record: false,
            },
            warm_up: Duration::try_from_secs_f64(self.warm_up_seconds)?,
            time: Duration::try_from_secs_f64(self.seconds)?,
        };
        load.measure(site).await
    }
}

/// The median of a figure over rounds.
pub(super) fn median_of(rounds: &[Steady], figure: fn(&Steady) -> f64) -> anyhow::Result<f64> {
    median(rounds.iter().map(figure).collect())
}

impl Measure for Load {
    const NAME: &'static str = "load";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("cpu_per_job", "us"),
        FigureKind::new("broker_cpu_per_job", "us"),
        FigureKind::new("cpu_over_broker", "x"),
        FigureKind::new("jobs_per_second", "jobs/s"),
        FigureKind::new("broker_jobs_per_second", "jobs/s"),
        FigureKind::new("latency_median", "ms"),
        FigureKind::new("latency_p99", "ms"),
        FigureKind::new("broker_latency_median", "ms"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        ensure!(self.rounds > 0, "rounds must be at least 1");
        let (mut ours, mut brokers) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let site = lab.scheduler().await?;
            ours.push(self.once(&site, self.workers).await?);
            drop(site);
            brokers.push(self.once(&lab.broker().await?, self.workers).await?);
        }
        let cpu = median_of(&ours, |one| one.cpu_us_per_job)?;
        let broker_cpu = median_of(&brokers, |one| one.cpu_us_per_job)?;
        let mut figures = Figures::default();
        figures.add("cpu_per_job", cpu);
        figures.add("broker_cpu_per_job", broker_cpu);
        figures.add("cpu_over_broker", cpu / broker_cpu);
        figures.add(
            "jobs_per_second",
            median_of(&ours, |one| one.jobs_per_second)?,
        );
        figures.add(
            "broker_jobs_per_second",
            median_of(&brokers, |one| one.jobs_per_second)?,
        );
        figures.add(
            "latency_median",
            median_of(&ours, |one| one.quantile_ms(0.5))?,
        );
        figures.add(
            "latency_p99",
            median_of(&ours, |one| one.quantile_ms(0.99))?,
        );
        figures.add(
            "broker_latency_median",
            median_of(&brokers, |one| one.quantile_ms(0.5))?,
        );
        Ok(figures)
    }
}
