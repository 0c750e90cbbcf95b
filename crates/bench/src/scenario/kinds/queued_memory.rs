//! What a queued job takes of the scheduler's memory, and of the bare broker's, which holds little more than what the connection
//! itself has to keep.

use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Deserialize;

use crate::load::{Crowd, CrowdPlan, Pace};
use crate::memory::steady_kib;
use crate::scenario::{FigureKind, Figures, Lab, Measure, Site};

/// How long accepting may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Jobs of each client before the first look, so that what is needed once is not counted.
const BASE: u32 = 200;

/// How many jobs wait.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QueuedMemory {
    /// Clients, each with a connection of its own.
    clients: u32,
    /// Jobs of each.
    jobs: u32,
    /// Among how many cache hints jobs are divided.
    hints: u32,
    /// How long a job's description is, in bytes.
    descr_bytes: usize,
    /// Whether log and result are asked for while a job is queued.
    ask_ahead: bool,
}

impl Default for QueuedMemory {
    fn default() -> Self {
        Self {
            clients: 4,
            jobs: 5000,
            hints: 1000,
            descr_bytes: 300,
            ask_ahead: false,
        }
    }
}

impl Measure for QueuedMemory {
    const NAME: &'static str = "queued-memory";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("bytes_per_job", "bytes"),
        FigureKind::new("broker_bytes_per_job", "bytes"),
        FigureKind::new("beyond_broker", "bytes"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        // Side by side: memory does not depend on who else is busy.
        let (site, broker) = (lab.scheduler().await?, lab.broker().await?);
        let (ours, broker) = tokio::try_join!(self.once(&site), self.once(&broker))?;
        let mut figures = Figures::default();
        figures.add("bytes_per_job", ours);
        figures.add("broker_bytes_per_job", broker);
        figures.add("beyond_broker", ours - broker);
        Ok(figures)
    }
}

impl QueuedMemory {
    async fn once(&self, site: &Site) -> anyhow::Result<f64> {
        ensure!(
            self.clients > 0 && self.jobs > 0,
            "at least one client and one job are needed"
        );
        let pid = site.pid()?;
        let _base = self.queue(site, BASE).await?;
        let before = steady_kib(pid).await?;
        let _jobs = self.queue(site, self.jobs).await?;
        let with = steady_kib(pid).await?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "memory in KiB is far below 2^52"
        )]
        let grown = with.saturating_sub(before) as f64 * 1024.0;
        Ok(grown / (f64::from(self.clients) * f64::from(self.jobs)))
    }

    /// Queues so many jobs of each client. They are cancelled when the crowd is dropped.
    async fn queue(&self, site: &Site, jobs: u32) -> anyhow::Result<Crowd> {
        let mut crowd = Crowd::start(CrowdPlan {
            pool: site.pool().to_owned(),
            caps: (0..self.clients)
                .map(|number| site.submission(number))
                .collect::<anyhow::Result<_>>()?,
            pace: Pace::AtOnce(jobs),
            hints: self.hints,
            descr_bytes: self.descr_bytes,
            ask_ahead: self.ask_ahead,
            record: false,
        })
        .await?;
        let (tally, all) = (crowd.tally(), u64::from(jobs) * u64::from(self.clients));
        let accepted = async {
            while tally.accepted() < all {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            accepted = tokio::time::timeout(LIMIT, accepted) => accepted?,
            ended = crowd.ended() => {
                drop(ended?);
                bail!("jobs ended: does the pool have workers?")
            }
        }
        Ok(crowd)
    }
}
