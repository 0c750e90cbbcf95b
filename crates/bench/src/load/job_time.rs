//! How long simulated jobs take.

use std::time::Duration;

use serde::Deserialize;

/// How long jobs take on a worker.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobTime {
    /// Each takes so many milliseconds.
    FixedMs(f64),
    /// They are distributed exponentially, with this mean in milliseconds.
    ExponentialMs(f64),
}

/// The golden ratio less one: its multiples fill the unit interval evenly, in an order that looks like none.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

impl JobTime {
    /// How long the job with this number takes: the same in each run.
    #[must_use]
    pub fn of(self, number: u32) -> Duration {
        let ms = match self {
            Self::FixedMs(ms) => ms,
            Self::ExponentialMs(mean) => {
                let even = (f64::from(number) + 0.5) * GOLDEN;
                -mean * (1.0 - even.fract()).ln()
            }
        };
        Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_times_have_their_mean_and_differ() {
        let time = JobTime::ExponentialMs(100.0);
        let total: Duration = (0..10_000).map(|number| time.of(number)).sum();
        let mean = total.as_secs_f64() * 1000.0 / 10_000.0;
        assert!((mean - 100.0).abs() < 2.0, "{mean}");
        let longest = (0..10_000).map(|number| time.of(number)).max().unwrap();
        assert!(longest > Duration::from_millis(700), "{longest:?}");
        assert_ne!(time.of(1), time.of(2));
    }
}
