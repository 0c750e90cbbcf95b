//! Two ways to do one thing, measured in pairs: one after the other, the order changing from pair to pair, so that whatever else the
//! machine does meets both alike. What is judged is the median over the pairs, never one run.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

/// What the pairs have shown so far.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// Medians over the pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Number of pairs.
    pub pairs: usize,
    /// Our time, in milliseconds.
    pub ours_ms: f64,
    /// The time of what we are compared with, in milliseconds.
    pub theirs_ms: f64,
    /// The difference within a pair, in milliseconds; negative where we are faster.
    pub difference_ms: f64,
    /// The quotient within a pair.
    pub ratio: f64,
}

impl Pairs {
    /// Adds a pair.
    pub fn add(&mut self, ours: Duration, theirs: Duration) {
        self.ours.push(ours.as_secs_f64() * 1000.0);
        self.theirs.push(theirs.as_secs_f64() * 1000.0);
    }

    /// The medians.
    ///
    /// # Errors
    /// If there is no pair.
    pub fn compare(&self) -> anyhow::Result<Compared> {
        ensure!(!self.ours.is_empty(), "nothing was measured");
        let pairs = || self.ours.iter().zip(&self.theirs);
        Ok(Compared {
            pairs: self.ours.len(),
            ours_ms: median(self.ours.clone())?,
            theirs_ms: median(self.theirs.clone())?,
            difference_ms: median(pairs().map(|(ours, theirs)| ours - theirs).collect())?,
            ratio: median(pairs().map(|(ours, theirs)| ours / theirs).collect())?,
        })
    }
}

/// The middle one; of an even number the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> anyhow::Result<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().context("a median of nothing");
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        at(middle)
    } else {
        Ok(f64::midpoint(at(middle.wrapping_sub(1))?, at(middle)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_pair_does_not_count() {
        let mut pairs = Pairs::default();
        for (ours, theirs) in [(110, 100), (5000, 100), (120, 100)] {
            pairs.add(Duration::from_millis(ours), Duration::from_millis(theirs));
        }
        let compared = pairs.compare().unwrap();
        assert_eq!(compared.pairs, 3);
        assert!((compared.difference_ms - 20.0).abs() < 1e-9, "{compared:?}");
        assert!((compared.ratio - 1.2).abs() < 1e-9, "{compared:?}");
    }

    #[test]
    fn the_median_of_two_is_between_them_and_of_none_is_an_error() {
        assert!((median(vec![4.0, 2.0]).unwrap() - 3.0).abs() < 1e-9);
        assert!(median(Vec::new()).is_err());
        assert!(Pairs::default().compare().is_err());
    }
}
