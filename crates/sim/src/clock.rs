//! The wall clock of the simulated scheduler: simulated time, and how wrong it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ocluster_scheduler::Clock;

use crate::determinism::EPOCH;

/// A clock that can be set wrong while it is in use.
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    /// Milliseconds that it is ahead.
    skew: Arc<AtomicI64>,
}

impl SimClock {
    /// Puts the clock so many milliseconds ahead of simulated time, or behind.
    pub fn set_skew(&self, milliseconds: i64) {
        self.skew.store(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let now = EPOCH + turmoil::sim_elapsed().unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        now.saturating_add_signed(self.skew.load(Ordering::Relaxed))
    }
}
