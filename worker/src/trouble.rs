//! Noticing that jobs fail because of this machine (a full disk, an engine that is away) and not because of the jobs.
//!
//! An idle worker is the first to get the next job. One that fails each at once would go through the whole queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::executor::Outcome;
use crate::job::JobResult;

/// The longest wait before the next job.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts failures in a row. A clone counts the same.
#[derive(Clone, Default)]
pub(crate) struct Trouble {
    in_a_row: Arc<AtomicU32>,
}

impl Trouble {
    /// Takes note of how a job ended. What the job itself did wrong, or a cancel, says nothing about the machine.
    pub(crate) fn note(&self, result: &JobResult) {
        match result {
            JobResult::Outcome(Outcome::Failed(failure)) if failure.cause.is_the_workers() => {
                self.in_a_row.fetch_add(1, Ordering::Relaxed);
            }
            JobResult::Outcome(Outcome::Cancelled) => {}
            _ => self.in_a_row.store(0, Ordering::Relaxed),
        }
    }

    /// How long to wait before the next job, if at all: doubling from two seconds up to a minute.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self.in_a_row.load(Ordering::Relaxed) {
            0 => None,
            failures => Some(Duration::from_secs(1 << failures.min(6)).min(LONGEST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Failure;

    #[test]
    fn a_broken_machine_takes_jobs_ever_more_slowly_until_one_works() {
        let trouble = Trouble::default();
        assert_eq!(trouble.wait(), None);
        let engine_away = JobResult::Outcome(Failure::engine("the engine is away").into());
        let mut waits = Vec::new();
        for _ in 0..8 {
            trouble.note(&engine_away);
            waits.push(trouble.wait().unwrap().as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        trouble.note(&JobResult::Outcome(Outcome::Cancelled));
        assert!(trouble.wait().is_some(), "a cancel shows nothing");
        trouble.note(&JobResult::Outcome(Failure::build("exit code 1").into()));
        assert_eq!(
            trouble.wait(),
            None,
            "a build that fails shows that the machine works"
        );
    }
}
