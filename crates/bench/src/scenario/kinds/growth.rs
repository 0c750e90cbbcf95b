//! What more workers cost: the same load with few and with many, measured in turns, the bare broker with many beside them.

use anyhow::ensure;
use serde::Deserialize;

use super::load::{Load, median_of};
use crate::scenario::{FigureKind, Figures, Lab, Measure};

/// The load, and how few workers it is compared with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Growth {
    /// So many workers are few.
    few_workers: u32,
    /// The load with many.
    load: Load,
}

impl Measure for Growth {
    const NAME: &'static str = "growth";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("cpu_per_job", "us"),
        FigureKind::new("few_cpu_per_job", "us"),
        FigureKind::new("cpu_over_few", "x"),
        FigureKind::new("broker_cpu_per_job", "us"),
        FigureKind::new("cpu_over_broker", "x"),
        FigureKind::new("jobs_per_second", "jobs/s"),
        FigureKind::new("latency_median", "ms"),
        FigureKind::new("latency_p99", "ms"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let load = &self.load;
        ensure!(load.rounds > 0, "rounds must be at least 1");
        let (mut few, mut many, mut brokers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..load.rounds {
            few.push(load.once(&lab.scheduler().await?, self.few_workers).await?);
            many.push(load.once(&lab.scheduler().await?, load.workers).await?);
            brokers.push(load.once(&lab.broker().await?, load.workers).await?);
        }
        let cpu = median_of(&many, |one| one.cpu_us_per_job)?;
        let few_cpu = median_of(&few, |one| one.cpu_us_per_job)?;
        let broker_cpu = median_of(&brokers, |one| one.cpu_us_per_job)?;
        let mut figures = Figures::default();
        figures.add("cpu_per_job", cpu);
        figures.add("few_cpu_per_job", few_cpu);
        figures.add("cpu_over_few", cpu / few_cpu);
        figures.add("broker_cpu_per_job", broker_cpu);
        figures.add("cpu_over_broker", cpu / broker_cpu);
        figures.add(
            "jobs_per_second",
            median_of(&many, |one| one.jobs_per_second)?,
        );
        figures.add(
            "latency_median",
            median_of(&many, |one| one.quantile_ms(0.5))?,
        );
        figures.add(
            "latency_p99",
            median_of(&many, |one| one.quantile_ms(0.99))?,
        );
        Ok(figures)
    }
}
