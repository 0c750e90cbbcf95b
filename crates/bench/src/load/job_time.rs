//! How long simulated jobs take.

use std::time::Duration;

use serde::Deserialize;

/// How long jobs take on a worker.
#[derive(Clone, Copy, Debug, Deserialize)]
pub enum JobTime {
    /// Each takes so many milliseconds.
    #[serde(rename = "fixed_ms")]
    Fixed(f64),
    /// They are distributed exponentially, with this mean in milliseconds.
    #[serde(rename = "exponential_ms")]
    Exponential(f64),
    /// So many milliseconds where the worker has not seen their cache hint, and a sixtieth of that where it has.
    #[serde(rename = "build_ms")]
    Build(f64),
}

/// A build takes this many times less where its hint is known.
const CACHED_IS_FASTER: f64 = 60.0;

/// The golden ratio less one: its multiples fill the unit interval evenly, in an order that looks like none.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

impl JobTime {
    /// How long the job with this number takes: the same in each run. `known` tells whether its worker has seen its hint.
    #[must_use]
    pub fn of(self, number: u32, known: bool) -> Duration {
        let ms = match self {
            Self::Fixed(ms) => ms,
            Self::Build(ms) if known => ms / CACHED_IS_FASTER,
            Self::Build(ms) => ms,
            Self::Exponential(mean) => {
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
        let time = JobTime::Exponential(100.0);
        let total: Duration = (0..10_000).map(|number| time.of(number, false)).sum();
        let mean = total.as_secs_f64() * 1000.0 / 10_000.0;
        assert!((mean - 100.0).abs() < 2.0, "{mean}");
        let longest = (0..10_000)
            .map(|number| time.of(number, false))
            .max()
            .unwrap();
        assert!(longest > Duration::from_millis(700), "{longest:?}");
        assert_ne!(time.of(1, false), time.of(2, false));
    }

    #[test]
    fn only_builds_are_faster_where_their_hint_is_known() {
        let build = JobTime::Build(600.0);
        assert_eq!(build.of(7, false), Duration::from_millis(600));
        assert_eq!(build.of(7, true), Duration::from_millis(10));
        let fixed = JobTime::Fixed(600.0);
        assert_eq!(fixed.of(7, true), Duration::from_millis(600));
    }
}
