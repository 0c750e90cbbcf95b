//! Which jobs have changed of late, for those who watch them. Bounded: who looks too seldom is told that changes were missed.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use ocluster_scheduling::{ClientId, JobId};
use tokio::sync::watch;

/// How many changes are remembered.
const KEPT: usize = 16 * 1024;

/// The latest changes, each with a number that grows.
pub(crate) struct Changes {
    kept: RefCell<VecDeque<Change>>,
    latest: watch::Sender<u64>,
}

struct Change {
    number: u64,
    job: JobId,
    client: ClientId,
}

/// What has changed since a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// The jobs, each once.
    pub(crate) jobs: BTreeSet<JobId>,
    /// Where to go on.
    pub(crate) cursor: u64,
    /// Whether there may be more.
    pub(crate) missed: bool,
}

impl Changes {
    /// Begins to count above all numbers that an earlier run of the scheduler has given, if the clock has not gone back.
    pub(crate) fn new(now_ms: u64) -> Self {
        // A thousand changes in each millisecond would have to pass for two runs to overlap.
        let first = now_ms.saturating_mul(1000).max(1);
        Self {
            kept: RefCell::default(),
            latest: watch::Sender::new(first),
        }
    }

    /// A job of this client has changed.
    pub(crate) fn note(&self, job: JobId, client: &ClientId) {
        let mut number = 0;
        self.latest.send_modify(|latest| {
            *latest += 1;
            number = *latest;
        });
        let mut kept = self.kept.borrow_mut();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Change {
            number,
            job,
            client: client.clone(),
        });
    }

    /// What has changed since then, of this client's jobs or of all. 0 stands for now.
    pub(crate) fn since(&self, cursor: u64, client: Option<&ClientId>) -> Changed {
        let latest = *self.latest.borrow();
        let kept = self.kept.borrow();
        let oldest = kept.front().map_or(latest, |change| change.number - 1);
        let missed = cursor != 0 && (cursor < oldest || cursor > latest);
        let from = if cursor == 0 { latest } else { cursor };
        let begin = kept.partition_point(|change| change.number <= from);
        Changed {
            jobs: kept
                .range(begin..)
                .filter(|change| client.is_none_or(|client| *client == change.client))
                .map(|change| change.job)
                .collect(),
            cursor: latest,
            missed,
        }
    }

    /// Waits until something has changed since then.
    pub(crate) async fn after(&self, cursor: u64) {
        let mut latest = self.latest.subscribe();
        // The sender is ours, so that this ends only with a change.
        let _ = latest.wait_for(|latest| *latest != cursor).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn alice() -> ClientId {
        "alice".into()
    }

    #[test]
    fn changes_are_told_once_and_in_one_go() {
        let changes = Changes::new(5);
        let start = changes.since(0, None);
        assert!(start.jobs.is_empty() && !start.missed);
        assert!(changes.after(start.cursor).now_or_never().is_none());
        for job in [1, 2, 1] {
            changes.note(JobId(job), &alice());
        }
        assert!(changes.after(start.cursor).now_or_never().is_some());
        let then = changes.since(start.cursor, None);
        assert_eq!(then.jobs, [JobId(1), JobId(2)].into());
        assert!(!then.missed);
        assert!(changes.since(then.cursor, None).jobs.is_empty());
    }

    #[test]
    fn whoever_asks_for_one_client_hears_nothing_of_others() {
        let changes = Changes::new(5);
        let start = changes.since(0, None).cursor;
        changes.note(JobId(1), &alice());
        changes.note(JobId(2), &"bob".into());
        let of_alice = changes.since(start, Some(&alice()));
        assert_eq!(of_alice.jobs, [JobId(1)].into());
        assert_eq!(of_alice.cursor, changes.since(start, None).cursor);
    }

    #[test]
    fn whoever_comes_too_late_or_from_another_run_is_told_so() {
        let changes = Changes::new(5);
        let start = changes.since(0, None).cursor;
        for job in 0..=(KEPT as u64) {
            changes.note(JobId(job), &alice());
        }
        assert!(changes.since(start, None).missed);
        assert!(!changes.since(start + 1, None).missed);
        assert!(changes.since(4, None).missed, "of an earlier run");
        assert!(
            changes.since(u64::MAX, None).missed,
            "of a run with another clock"
        );
    }
}
