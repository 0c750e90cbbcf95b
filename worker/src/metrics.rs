//! What this worker counts about itself. Counting is an atomic addition: it never waits and never fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The worker's counts. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    pushes: Times,
    prunes: Times,
    last_health_check_ns: AtomicU64,
    unhealthy: AtomicBool,
}

/// How often something took how long.
#[derive(Debug, Default)]
struct Times {
    count: AtomicU64,
    total_ns: AtomicU64,
}

impl Times {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_ns
            .fetch_add(nanoseconds(took), Ordering::Relaxed);
    }
}

impl Metrics {
    /// A push to a registry took this long, whatever came of it.
    pub fn pushed(&self, took: Duration) {
        self.0.pushes.add(took);
    }

    /// A prune took this long, whatever came of it.
    pub fn pruned(&self, took: Duration) {
        self.0.prunes.add(took);
    }

    /// A health check took this long, and said so.
    pub fn health_checked(&self, took: Duration, healthy: bool) {
        let last = &self.0.last_health_check_ns;
        last.store(nanoseconds(took), Ordering::Relaxed);
        self.0.unhealthy.store(!healthy, Ordering::Relaxed);
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
