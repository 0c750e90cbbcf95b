//! The reference for durable jobs: what their records cost when they are written straight into the store, by as many as wait for it.
//!
//! Each job is three changes, each of which is waited for: accepted with its description, running on a worker, passed. That is all that
//! a scheduler must have on disk; what it costs more is its own doing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use ocluster_store::{
    Change, JobId, JobKind, JobRecord, JobState, SledOptions, SledStore, StoreHandle, Writer,
    WriterConfig,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::memory::processor_time;
use crate::meter::{Medians, Spent};

/// Bytes of a sealed description: a specification of two hundred bytes, with what is around it.
const DESCRIPTION_BYTES: usize = 450;
/// Days since the Unix epoch do not matter here, milliseconds have to be of a plausible size.
const NOW_MS: u64 = 1_750_000_000_000;

/// A store in a directory of its own.
pub(super) struct Straight {
    writer: Writer,
    next: Arc<AtomicU64>,
    _directory: TempDir,
}

/// What writing them cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) jobs_per_second: f64,
    /// Microseconds of processor time for each job.
    pub(super) us_per_job: f64,
}

impl Written {
    /// Notes what these jobs cost through the scheduler, and what their records alone do.
    pub(super) fn compare(&self, spent: &Spent, jobs: f64, medians: &mut Medians) {
        let scheduler_us = spent.scheduler_us(jobs);
        medians.add("jobs_per_second", spent.per_second(jobs));
        medians.add("scheduler_us_per_job", scheduler_us);
        medians.add("driver_us_per_job", spent.driver_us(jobs));
        medians.add("store_jobs_per_second", self.jobs_per_second);
        medians.add("store_us_per_job", self.us_per_job);
        medians.add("cpu_of_store", scheduler_us / self.us_per_job);
    }
}

impl Straight {
    /// A new store below `directory`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) async fn new(directory: &Path) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix_in("straight", directory)?;
        let path = directory.path().to_owned();
        let open = move || SledStore::open(&path, SledOptions::default());
        let store = tokio::task::spawn_blocking(open).await??;
        Ok(Self {
            writer: Writer::start(Box::new(store), WriterConfig::default())?,
            next: Arc::new(AtomicU64::new(1)),
            _directory: directory,
        })
    }

    /// Writes `jobs` jobs, by `tasks` tasks at once, each of which writes `together` jobs in one commit. Nobody else may work in this
    /// process meanwhile.
    ///
    /// # Errors
    /// If one cannot be written.
    pub(super) async fn write(
        &self,
        jobs: u32,
        tasks: u32,
        together: u32,
    ) -> anyhow::Result<Written> {
        let before = processor_time(std::process::id())?;
        let started = Instant::now();
        let mut writing = JoinSet::new();
        let rounds = jobs.div_ceil(tasks * together);
        for task in 0..tasks {
            let (store, next) = (self.writer.handle(), self.next.clone());
            writing.spawn_local(async move {
                for _ in 0..rounds {
                    let first = next.fetch_add(u64::from(together), Ordering::Relaxed);
                    live(&store, first..first + u64::from(together), task).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(written) = writing.join_next().await {
            written?.context("cannot write straight into a store")?;
        }
        let (taken, processor) = (
            started.elapsed().as_secs_f64(),
            processor_time(std::process::id())?.saturating_sub(before),
        );
        let written = f64::from(rounds * tasks * together);
        Ok(Written {
            jobs_per_second: written / taken,
            us_per_job: processor.as_secs_f64() * 1e6 / written,
        })
    }
}

/// The lives of some jobs, all of which do everything together.
async fn live(store: &StoreHandle, ids: std::ops::Range<u64>, task: u32) -> anyhow::Result<()> {
    let mut jobs: Vec<JobRecord> = ids.map(accepted).collect();
    let changes = jobs.iter().map(|job| Change::JobAccepted {
        record: Box::new(job.clone()),
        description: vec![0x5a; DESCRIPTION_BYTES],
    });
    store.commit(changes.collect()).await?;
    for job in &mut jobs {
        job.state = JobState::Running;
        job.times.assigned = Some(NOW_MS);
        job.times.started = Some(NOW_MS);
        job.worker = Some(format!("leased-{task}"));
        job.worker_identity = Some([7; 32]);
        job.attempt = 1;
    }
    store.commit(recorded(&jobs)).await?;
    for job in &mut jobs {
        job.state = JobState::Passed;
        job.times.ended = Some(NOW_MS);
        job.worker_identity = None;
        job.log_digest = Some([9; 32]);
    }
    store.commit(recorded(&jobs)).await?;
    Ok(())
}

fn accepted(id: u64) -> JobRecord {
    let kind = JobKind::Custom("test".to_owned());
    let mut job = JobRecord::queued(JobId::new(id), "bench", "bench", kind, NOW_MS);
    job.hint = format!("hint-{}", id % 100);
    job.durable = true;
    job.fair_start = 1.75e9;
    job.key = Some(format!("straight-{id}"));
    job.submission_digest = Some([3; 32]);
    job
}

fn recorded(jobs: &[JobRecord]) -> Vec<Change> {
    let changes = jobs
        .iter()
        .map(|job| Change::JobRecorded(Box::new(job.clone())));
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let straight = Straight::new(directory.path()).await.unwrap();
        let local = tokio::task::LocalSet::new();
        let written = local.run_until(straight.write(100, 5, 4)).await.unwrap();
        assert!(written.jobs_per_second > 0.0);
        let jobs = straight.writer.handle().jobs(None, 1000).await.unwrap();
        assert_eq!(jobs.len(), 100);
        assert!(jobs.iter().all(|job| job.state == JobState::Passed));
    }
}
