//! OCluster's stress shape with jobs that do nothing: a few large workers, and far more jobs than slots, submitted at once.

use std::time::Instant;

use anyhow::{anyhow, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::load::{Crowd, CrowdPlan, Fleet, FleetPlan, Pace};
use crate::memory::processor_time;
use crate::pairs::median;
use crate::scenario::{FigureKind, Figures, Lab, Measure, Site};

/// This part of the jobs comes before the first look, so that what is needed once is not counted.
const WARM_UP: u32 = 20;

/// How many jobs, for whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Stress {
    /// How many jobs each worker runs at once.
    capacities: Vec<u32>,
    /// Clients, each with a connection of its own.
    clients: u32,
    /// Jobs of each.
    jobs: u32,
    /// Among how many cache hints jobs are divided.
    hints: u32,
    /// How long a job's description is, in bytes.
    descr_bytes: usize,
    /// How often to measure each.
    rounds: u32,
}

impl Default for Stress {
    fn default() -> Self {
        Self {
            capacities: vec![32, 64, 64, 64, 128],
            clients: 1,
            jobs: 21_000,
            hints: 3000,
            descr_bytes: 400,
            rounds: 3,
        }
    }
}

/// What one round gave.
struct Round {
    jobs_per_second: f64,
    p99_seconds: f64,
    cpu_us_per_job: f64,
}

impl Measure for Stress {
    const NAME: &'static str = "stress";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("jobs_per_second", "jobs/s"),
        FigureKind::new("latency_p99", "s"),
        FigureKind::new("cpu_per_job", "us"),
        FigureKind::new("broker_jobs_per_second", "jobs/s"),
        FigureKind::new("broker_cpu_per_job", "us"),
        FigureKind::new("cpu_over_broker", "x"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let (mut ours, mut brokers) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            ours.push(self.once(&lab.scheduler().await?).await?);
            brokers.push(self.once(&lab.broker().await?).await?);
        }
        let of = |rounds: &[Round], figure: fn(&Round) -> f64| {
            median(rounds.iter().map(figure).collect())
        };
        let cpu = of(&ours, |one| one.cpu_us_per_job)?;
        let broker_cpu = of(&brokers, |one| one.cpu_us_per_job)?;
        let mut figures = Figures::default();
        figures.add("jobs_per_second", of(&ours, |one| one.jobs_per_second)?);
        figures.add("latency_p99", of(&ours, |one| one.p99_seconds)?);
        figures.add("cpu_per_job", cpu);
        figures.add(
            "broker_jobs_per_second",
            of(&brokers, |one| one.jobs_per_second)?,
        );
        figures.add("broker_cpu_per_job", broker_cpu);
        figures.add("cpu_over_broker", cpu / broker_cpu);
        Ok(figures)
    }
}

impl Stress {
    async fn once(&self, site: &Site) -> anyhow::Result<Round> {
        let all = f64::from(self.clients) * f64::from(self.jobs);
        ensure!(all > 0.0, "at least one client and one job are needed");
        let pid = site.pid()?;
        let plan = FleetPlan {
            name: "build".to_owned(),
            capacities: self.capacities.clone(),
            job_time: None,
            log_bytes: 0,
        };
        let mut fleet = Fleet::join(site.registration()?, plan).await?;
        self.run(site, (self.jobs / WARM_UP).max(1), &mut fleet)
            .await?;
        let processor_before = processor_time(pid)?;
        let started = Instant::now();
        let micros = self.run(site, self.jobs, &mut fleet).await?;
        let seconds = started.elapsed().as_secs_f64();
        let processor = processor_time(pid)?.saturating_sub(processor_before);
        fleet.leave().await?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of one job are far below 2^52"
        )]
        let p99_seconds = micros.value_at_quantile(0.99) as f64 / 1e6;
        Ok(Round {
            jobs_per_second: all / seconds,
            p99_seconds,
            cpu_us_per_job: processor.as_secs_f64() * 1e6 / all,
        })
    }

    /// Submits so many jobs at once, and waits for their ends.
    async fn run(
        &self,
        site: &Site,
        jobs: u32,
        fleet: &mut Fleet,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut crowd = Crowd::start(CrowdPlan {
            pool: site.pool().to_owned(),
            caps: (0..self.clients)
                .map(|number| site.submission(number))
                .collect::<anyhow::Result<_>>()?,
            pace: Pace::AtOnce(jobs),
            hints: self.hints,
            descr_bytes: self.descr_bytes,
            ask_ahead: false,
            record: true,
        })
        .await?;
        tokio::select! {
            ended = crowd.ended() => ended,
            lost = fleet.lost() => Err(anyhow!("the workers did not stay: {lost:#}")),
        }
    }
}
