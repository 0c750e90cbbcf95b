//! Noticing that jobs fail because of this machine (a full disk, an engine that is away) and not because of the jobs.
//!
//! An idle worker is the first to get the next job. One that fails each at once would go through the whole queue. Waiting helps
//! whatever the cause is; where the cause is the engine, its health check is told to look at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::executor::{Cause, Outcome};
use crate::job::JobResult;

/// The wait after the first failure, which may be an exception.
const FIRST: Duration = Duration::from_secs(2);
/// The longest wait before the next job.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts failures in a row. A clone counts the same.
#[derive(Clone)]
pub(crate) struct Trouble {
    in_a_row: watch::Sender<u32>,
    engine_failed: Arc<Notify>,
    /// Whether an engine that is away is this machine's trouble at all.
    engine_missed: Arc<AtomicBool>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            in_a_row: watch::Sender::new(0),
            engine_failed: Arc::default(),
            engine_missed: Arc::new(AtomicBool::new(true)),
        }
    }
}

impl Trouble {
    /// Takes note of how a job ended. What the job itself did wrong, or a cancel, says nothing about the machine.
    pub(crate) fn note(&self, result: &JobResult) {
        match result {
            JobResult::Outcome(Outcome::Failed(failure)) if failure.cause.is_the_workers() => {
                let of_the_engine = failure.cause == Cause::Engine;
                if of_the_engine {
                    self.engine_failed.notify_one();
                }
                // Jobs of other kinds need not suffer from an engine that never was.
                if !of_the_engine || self.engine_missed.load(Ordering::Relaxed) {
                    self.in_a_row
                        .send_modify(|count| *count = count.saturating_add(1));
                }
            }
            JobResult::Outcome(Outcome::Cancelled) => {}
            _ => self.is_over(),
        }
    }

    /// What was wrong with the machine has been put right.
    pub(crate) fn is_over(&self) {
        self.in_a_row.send_replace(0);
    }

    /// Says whether this worker should have an engine. One that should not is not held back by jobs that need one.
    pub(crate) fn engine_is_missed(&self, missed: bool) {
        self.engine_missed.store(missed, Ordering::Relaxed);
    }

    /// Whether the wait before the next job is more than a moment.
    pub(crate) fn lasts(&self) -> bool {
        self.wait().is_some_and(|wait| wait > FIRST)
    }

    /// Waits until a job fails because of the engine. Those that failed since the last wait count as one.
    pub(crate) async fn engine_failure(&self) {
        self.engine_failed.notified().await;
        // The first woke us, and a second one may have been kept for later.
        let _ = self.engine_failed.notified().now_or_never();
    }

    /// Waits before the next job, if jobs fail here; no longer than until one works, or the trouble is known to be over.
    pub(crate) async fn pause(&self) {
        let Some(wait) = self.wait() else { return };
        warn!(
            "Jobs fail because of this machine: waiting {} s before the next one",
            wait.as_secs()
        );
        let mut in_a_row = self.in_a_row.subscribe();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = in_a_row.wait_for(|count| *count == 0) => {}
        }
    }

    /// How long to wait before the next job, if at all: doubling from two seconds up to a minute.
    fn wait(&self) -> Option<Duration> {
        match *self.in_a_row.borrow() {
            0 => None,
            failures => Some(Duration::from_secs(1 << failures.min(6)).min(LONGEST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Failure;

    fn failed(failure: Failure) -> JobResult {
        JobResult::Outcome(failure.into())
    }

    #[test]
    fn an_engine_that_never_was_holds_back_no_jobs_of_other_kinds() {
        let trouble = Trouble::default();
        trouble.engine_is_missed(false);
        trouble.note(&failed(Failure::engine("no engine")));
        assert_eq!(trouble.wait(), None);
        trouble.note(&failed(Failure::setup("no room")));
        trouble.note(&failed(Failure::setup("no room")));
        assert!(trouble.lasts());
        trouble.engine_is_missed(true);
        trouble.is_over();
        trouble.note(&failed(Failure::engine("away")));
        assert_eq!(trouble.wait(), Some(FIRST));
        assert!(!trouble.lasts());
    }

    #[test]
    fn a_broken_machine_takes_jobs_ever_more_slowly_until_one_works() {
        let trouble = Trouble::default();
        assert_eq!(trouble.wait(), None);
        let mut waits = Vec::new();
        for _ in 0..8 {
            trouble.note(&failed(Failure::engine("the engine is away")));
            waits.push(trouble.wait().unwrap().as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        trouble.note(&JobResult::Outcome(Outcome::Cancelled));
        assert!(trouble.wait().is_some(), "a cancel shows nothing");
        trouble.note(&failed(Failure::build("exit code 1")));
        assert_eq!(
            trouble.wait(),
            None,
            "a build that fails shows that the machine works"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_trouble_does() {
        let trouble = Trouble::default();
        trouble.pause().await;
        for _ in 0..6 {
            trouble.note(&failed(Failure::setup("the disk is full")));
        }
        let start = tokio::time::Instant::now();
        trouble.pause().await;
        assert_eq!(start.elapsed(), LONGEST);
        let (ended, ()) = tokio::join!(
            async {
                trouble.pause().await;
                start.elapsed()
            },
            async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                trouble.is_over();
            }
        );
        assert_eq!(ended, LONGEST + Duration::from_secs(5));
    }

    #[test]
    fn only_a_failure_of_the_engine_raises_doubts_about_the_engine() {
        let trouble = Trouble::default();
        let doubted = || trouble.engine_failure().now_or_never().is_some();
        trouble.note(&failed(Failure::setup("the disk is full")));
        trouble.note(&failed(Failure::build("exit code 1")));
        assert!(!doubted());
        trouble.note(&failed(Failure::engine("the engine is away")));
        assert!(doubted());
        assert!(!doubted(), "one doubt is one look");
    }
}
