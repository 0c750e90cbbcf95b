//! Seeded randomness. All that is random in a simulation comes from here, so that one seed gives one history.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A span of simulated time, or a point in it, in milliseconds.
pub(crate) type Ms = u64;

/// One second.
pub(crate) const SECOND: Ms = 1_000;
/// One minute.
pub(crate) const MINUTE: Ms = 60 * SECOND;
/// One hour.
pub(crate) const HOUR: Ms = 60 * MINUTE;

/// A source of chance.
#[derive(Debug)]
pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// Something below `count`; 0 if that is 0.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.0.random_range(0..count.max(1))
    }

    /// True in so many cases of a thousand.
    pub(crate) fn permille(&mut self, cases: u64) -> bool {
        self.0.random_range(0..1000) < cases
    }

    /// The time to the next of events which come at random, `mean` apart; at least a millisecond.
    pub(crate) fn wait(&mut self, mean: Ms) -> Ms {
        let unit: f64 = self.0.random();
        let wait = -(1.0 - unit).ln() * mean as f64;
        (wait as Ms).max(1)
    }

    /// A duration of which most are near `least` and few near `most`: a Pareto distribution, cut off.
    pub(crate) fn heavy_tailed(&mut self, least: Ms, most: Ms) -> Ms {
        const SHAPE: f64 = 1.3;
        let unit: f64 = self.0.random();
        let drawn = least as f64 * (1.0 - unit).powf(-1.0 / SHAPE);
        (drawn as Ms).clamp(least, most)
    }

    /// Something below `count`, of which the first is the likeliest: the k-th about 1/k times as likely as the first.
    pub(crate) fn skewed(&mut self, count: usize) -> usize {
        let count = count.max(1);
        let drawn = ((count + 1) as f64).powf(self.unit()) as usize;
        drawn.saturating_sub(1).min(count - 1)
    }

    /// From 0 to 1, 1 excluded.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// A number of which most are near `least`: a Pareto distribution with this shape, cut off at `most`.
    pub(crate) fn pareto(&mut self, least: f64, shape: f64, most: f64) -> f64 {
        (least * (1.0 - self.unit()).powf(-1.0 / shape)).min(most)
    }
}
