//! Jobs that may wait only for so long: the first to be due is known without a look at the others.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ocluster_scheduling::{Event, JobId};
use ocluster_store::Cause;

use crate::job::WAITED_TOO_LONG;
use crate::state::{Entry, Scheduler};

/// How often is looked whether a job is due. A job waits at most that much longer than it may.
const PERIOD: Duration = Duration::from_secs(1);

/// When queued jobs have waited too long, in milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(RefCell<BTreeSet<(u64, JobId)>>);

impl Deadlines {
    /// From now on the job is due at that time, unless it is taken off.
    pub(crate) fn add(&self, at_ms: u64, job: JobId) {
        self.0.borrow_mut().insert((at_ms, job));
    }

    /// The job does not wait any more.
    pub(crate) fn remove(&self, at_ms: u64, job: JobId) {
        self.0.borrow_mut().remove(&(at_ms, job));
    }

    /// Takes a job that is due off.
    fn due(&self, now_ms: u64) -> Option<JobId> {
        let mut deadlines = self.0.borrow_mut();
        let first = deadlines.first().copied().filter(|(at, _)| *at <= now_ms)?;
        deadlines.remove(&first);
        Some(first.1)
    }
}

/// Ends jobs that have waited too long, until dropped.
pub(crate) async fn keep_time(scheduler: Rc<Scheduler>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while let Some(id) = scheduler.table().deadlines.due(scheduler.now_ms()) {
            let job = match scheduler.entry(id) {
                Some(Entry::Durable(job)) => job,
                Some(Entry::Attached(job)) => {
                    if matches!(job.run(), Ok(None)) {
                        job.set_cancel_reason(WAITED_TOO_LONG);
                        scheduler.post(Event::Cancelled { job: id });
                    }
                    continue;
                }
                None => continue,
            };
            if !job.is_queued() {
                continue;
            }
            let limit = Duration::from_millis(job.limits.queued.unwrap_or_default());
            let cause = Cause {
                code: "queued-time-limit".to_owned(),
                sentence: format!(
                    "it waited for a worker longer than {}",
                    ocluster_cli::show_duration(limit)
                ),
            };
            scheduler.stop_for(&job, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_due_in_the_order_of_their_times_and_not_before() {
        let deadlines = Deadlines::default();
        for (at, job) in [(30, 1), (10, 2), (20, 3)] {
            deadlines.add(at, JobId(job));
        }
        deadlines.remove(20, JobId(3));
        assert_eq!(deadlines.due(9), None);
        assert_eq!(deadlines.due(30), Some(JobId(2)));
        assert_eq!(deadlines.due(30), Some(JobId(1)));
        assert_eq!(deadlines.due(u64::MAX), None);
    }
}
