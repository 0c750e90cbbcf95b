//! What a scheduler costs while workers and clients keep it busy: after everything has warmed up, over a given time.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;

use super::crowd::{Crowd, CrowdPlan};
use super::fleet::{Fleet, FleetPlan};
use crate::memory::processor_time;
use crate::scenario::Site;

/// As many jobs have to end while it is measured, or it goes on.
const LEAST_JOBS: u64 = 50;
/// But not for longer than this.
const LIMIT: Duration = Duration::from_secs(60);

/// A load, and for how long.
#[derive(Clone, Debug)]
pub struct SteadyLoad {
    /// The workers.
    pub fleet: FleetPlan,
    /// The clients. Their pace must not be [`super::Pace::AtOnce`].
    pub crowd: CrowdPlan,
    /// How long to wait before measuring.
    pub warm_up: Duration,
    /// How long to measure, at least: where jobs are slow to end, some more.
    pub time: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Steady {
    /// The scheduler's processor time for each job, in microseconds.
    pub cpu_us_per_job: f64,
    /// Jobs that ended in a second.
    pub jobs_per_second: f64,
    /// From submission (or when that was due) to the result and the end of the log, in microseconds.
    pub latency: Histogram<u64>,
}

impl SteadyLoad {
    /// Measures.
    ///
    /// # Errors
    /// If somebody cannot connect, a job fails, or nothing ends at all.
    pub async fn measure(&self, site: &Site) -> anyhow::Result<Steady> {
        let pid = site.pid()?;
        let mut fleet = Fleet::join(site.registration()?, self.fleet.clone()).await?;
        let mut crowd = Crowd::start(self.crowd.clone()).await?;
        undisturbed(self.warm_up, &mut fleet, &mut crowd).await?;
        let tally = crowd.tally();
        tally.record(true);
        let (ended_before, processor_before) = (tally.ended(), processor_time(pid)?);
        let started = Instant::now();
        undisturbed(self.time, &mut fleet, &mut crowd).await?;
        while tally.ended() - ended_before < LEAST_JOBS && started.elapsed() < LIMIT {
            undisturbed(Duration::from_millis(20), &mut fleet, &mut crowd).await?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let processor = processor_time(pid)?.saturating_sub(processor_before);
        let jobs = u32::try_from(tally.ended() - ended_before)?;
        tally.record(false);
        ensure!(jobs > 0, "no job ended within {:?}", started.elapsed());
        let latency = crowd.stop().await?;
        fleet.leave().await?;
        Ok(Steady {
            cpu_us_per_job: processor.as_secs_f64() * 1e6 / f64::from(jobs),
            jobs_per_second: f64::from(jobs) / seconds,
            latency,
        })
    }
}

/// Waits, unless something goes wrong.
async fn undisturbed(time: Duration, fleet: &mut Fleet, crowd: &mut Crowd) -> anyhow::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        error = fleet.lost() => Err(error),
        ended = crowd.ended() => {
            drop(ended?);
            anyhow::bail!("the clients left")
        }
    }
}

impl Steady {
    /// This part of the jobs took less, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, part: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of one job are far below 2^52"
        )]
        let micros = self.latency.value_at_quantile(part) as f64;
        micros / 1000.0
    }
}
