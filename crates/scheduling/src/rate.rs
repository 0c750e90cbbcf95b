//! A client's rate: how many jobs it may expect to run at once.
//!
//! Parsed once at the edge; a `Rate` cannot be zero, negative or infinite, so dividing by it is always meaningful.

use std::fmt;

/// How many jobs a client may expect to run at once: positive and finite. The default is 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

/// A rate that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the rate {rate} cannot be used: it must be a number greater than 0")]
pub struct RateError {
    rate: f64,
}

impl Rate {
    /// A rate of `rate` jobs at once.
    ///
    /// # Errors
    ///
    /// If `rate` is not finite or not greater than zero.
    pub fn new(rate: f64) -> Result<Self, RateError> {
        if rate.is_finite() && rate > 0.0 {
            Ok(Self(rate))
        } else {
            Err(RateError { rate })
        }
    }

    /// The number of jobs.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self(1.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_must_be_positive_and_finite() {
        for rate in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Rate::new(rate).is_err(), "{rate}");
        }
        assert_eq!(Rate::new(0.4).map(Rate::get), Ok(0.4));
    }
}
