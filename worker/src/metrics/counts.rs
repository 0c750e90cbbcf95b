//! What this worker counts about itself. Counting is an atomic addition: it never waits and never fails.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ocluster_cli::metrics_page::Times;

use crate::executor::Outcome;
use crate::job::JobResult;

/// The worker's counts. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    jobs_accepted: AtomicU64,
    /// The sum of the running jobs' weights.
    running: AtomicU64,
    jobs: [Span; JobEnd::ALL.len()],
    pushes: Span,
    prunes: Span,
    last_health_check_ns: AtomicU64,
    unhealthy: [AtomicBool; Checked::COUNT],
    store_hits: AtomicU64,
    store_misses: AtomicU64,
    /// Hundredths of a percent, and one more; 0 before it is known.
    store_space: AtomicU64,
}

/// What a health check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The Docker engine.
    Engine,
    /// The OBuilder store, and all that a build in it needs.
    Store,
}

impl Checked {
    const COUNT: usize = 2;
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "Docker engine",
            Self::Store => "OBuilder store",
        })
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Span {
    count: AtomicU64,
    total_ns: AtomicU64,
}

impl Span {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_ns
            .fetch_add(nanoseconds(took), Ordering::Relaxed);
    }

    fn times(&self, labels: Vec<&'static str>) -> Times {
        Times {
            labels,
            count: self.count.load(Ordering::Relaxed),
            seconds: seconds(self.total_ns.load(Ordering::Relaxed)),
        }
    }
}

/// How a job ended, as OCluster's workers count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It succeeded.
    Ok,
    /// It failed by its own fault.
    Fail,
    /// It was cancelled.
    Cancelled,
    /// It failed because of this machine, or of a mistake in the worker.
    Error,
}

impl JobEnd {
    const ALL: [Self; 4] = [Self::Ok, Self::Fail, Self::Cancelled, Self::Error];

    /// The value of the label `result`.
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}

impl From<&JobResult> for JobEnd {
    fn from(result: &JobResult) -> Self {
        match result {
            JobResult::Outcome(Outcome::Succeeded { .. }) => Self::Ok,
            JobResult::Outcome(Outcome::Cancelled) => Self::Cancelled,
            JobResult::Outcome(Outcome::Failed(failure)) if failure.cause.is_the_workers() => {
                Self::Error
            }
            JobResult::Outcome(Outcome::Failed(_)) => Self::Fail,
            JobResult::Crashed => Self::Error,
        }
    }
}

/// A job that runs. It counts as running until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningJob {
    metrics: Metrics,
    weight: u64,
    started: Instant,
}

impl RunningJob {
    /// The job has ended.
    pub(crate) fn ended(self, end: JobEnd) {
        if let Some(span) = self.metrics.0.jobs.get(end as usize) {
            span.add(self.started.elapsed());
        }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let running = &self.metrics.0.running;
        running.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A job was accepted and starts. It counts as this many running jobs, which is the number of slots it takes.
    pub(crate) fn job_started(&self, weight: u32) -> RunningJob {
        let weight = u64::from(weight);
        self.0.jobs_accepted.fetch_add(1, Ordering::Relaxed);
        self.0.running.fetch_add(weight, Ordering::Relaxed);
        RunningJob {
            metrics: self.clone(),
            weight,
            started: Instant::now(),
        }
    }

    /// A push to a registry took this long, whatever came of it.
    pub fn pushed(&self, took: Duration) {
        self.0.pushes.add(took);
    }

    /// A prune took this long, whatever came of it.
    pub fn pruned(&self, took: Duration) {
        self.0.prunes.add(took);
    }

    /// A health check took this long, and said so.
    pub fn health_checked(&self, checked: Checked, took: Duration, healthy: bool) {
        let last = &self.0.last_health_check_ns;
        last.store(nanoseconds(took), Ordering::Relaxed);
        if let Some(unhealthy) = self.0.unhealthy.get(checked as usize) {
            unhealthy.store(!healthy, Ordering::Relaxed);
        }
    }

    /// So many steps of OBuilder builds were found in the store since the worker's start, and so many were not.
    pub fn store_used(&self, hits: u64, misses: u64) {
        self.0.store_hits.store(hits, Ordering::Relaxed);
        self.0.store_misses.store(misses, Ordering::Relaxed);
    }

    /// This part of the OBuilder store's disk is free, 0 to 100.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is between 1 and 10001"
    )]
    pub fn store_space(&self, free_percent: f64) {
        let hundredths = (free_percent.clamp(0.0, 100.0) * 100.0).round() as u64;
        self.0.store_space.store(hundredths + 1, Ordering::Relaxed);
    }

    pub(super) fn jobs_accepted(&self) -> u64 {
        self.0.jobs_accepted.load(Ordering::Relaxed)
    }

    /// The sum of the running jobs' weights.
    pub(super) fn running(&self) -> u64 {
        self.0.running.load(Ordering::Relaxed)
    }

    /// Times of jobs, labelled by how they ended.
    pub(super) fn job_times(&self) -> Vec<Times> {
        let ends = JobEnd::ALL.iter().zip(&self.0.jobs);
        ends.map(|(end, span)| span.times(vec![end.label()]))
            .collect()
    }

    pub(super) fn push_times(&self) -> Times {
        self.0.pushes.times(Vec::new())
    }

    pub(super) fn prune_times(&self) -> Times {
        self.0.prunes.times(Vec::new())
    }

    /// How long the last health check took, in seconds; 0 before the first.
    pub(super) fn last_health_check(&self) -> f64 {
        seconds(self.0.last_health_check_ns.load(Ordering::Relaxed))
    }

    /// Whether anything is.
    pub(super) fn is_unhealthy(&self) -> bool {
        let unhealthy = &self.0.unhealthy;
        unhealthy.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// Steps found in the OBuilder store, and steps not found there.
    pub(super) fn store_uses(&self) -> (u64, u64) {
        (
            self.0.store_hits.load(Ordering::Relaxed),
            self.0.store_misses.load(Ordering::Relaxed),
        )
    }

    /// The free part of the OBuilder store's disk, 0 to 100, if there is one.
    #[expect(clippy::cast_precision_loss, reason = "it is 10000 at most")]
    pub(crate) fn store_space_free(&self) -> Option<f64> {
        let stored = self.0.store_space.load(Ordering::Relaxed);
        Some(stored.checked_sub(1)? as f64 / 100.0)
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Failure;

    fn counted(metrics: &Metrics) -> Vec<(&'static str, u64)> {
        let times = metrics.job_times();
        times
            .iter()
            .map(|times| (times.labels[0], times.count))
            .collect()
    }

    #[test]
    fn jobs_are_counted_by_how_they_end() {
        let metrics = Metrics::default();
        let crashed = JobResult::Crashed;
        let failed = JobResult::Outcome(Failure::build("exit code 1").into());
        let no_engine = JobResult::Outcome(Failure::engine("the engine is away").into());
        let cancelled = JobResult::Outcome(Outcome::Cancelled);
        for result in [&crashed, &failed, &no_engine, &cancelled, &failed] {
            metrics.job_started(1).ended(result.into());
        }
        metrics.job_started(1).ended(JobEnd::Ok);
        assert_eq!(metrics.jobs_accepted(), 6);
        let expected = [("ok", 1), ("fail", 2), ("cancelled", 1), ("error", 2)];
        assert_eq!(counted(&metrics), expected);
    }

    #[test]
    fn running_jobs_count_with_their_weight_until_they_are_over() {
        let metrics = Metrics::default();
        let heavy = metrics.job_started(3);
        let light = metrics.job_started(1);
        assert_eq!(metrics.running(), 4);
        heavy.ended(JobEnd::Ok);
        assert_eq!(metrics.running(), 1);
        // One that is lost without a word runs no longer either.
        drop(light);
        assert_eq!(metrics.running(), 0);
    }

    #[test]
    fn a_health_check_replaces_the_one_before() {
        let metrics = Metrics::default();
        metrics.health_checked(Checked::Engine, Duration::from_millis(1500), false);
        assert!(metrics.is_unhealthy());
        assert_eq!(metrics.last_health_check(), 1.5);
        metrics.health_checked(Checked::Engine, Duration::from_millis(250), true);
        assert!(!metrics.is_unhealthy());
        assert_eq!(metrics.last_health_check(), 0.25);
    }
}
