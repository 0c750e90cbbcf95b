//! The only place where the scheduler reads a clock, so that a simulation can bring its own.

use std::time::{SystemTime, UNIX_EPOCH};

use ocluster_scheduling::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// The same moment as the scheduling core wants it.
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds fit 52 bits for longer than anything here lasts"
        )]
        Timestamp::from_secs(self.now_ms() as f64 / 1000.0)
    }
}

/// The machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 is a clock that was never set.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
