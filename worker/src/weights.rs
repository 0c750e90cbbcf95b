//! How many slots a job takes, by its cache hint: what the operator says of jobs that need more of a machine than others.

use std::fmt;
use std::str::FromStr;

use glob::Pattern;
use thiserror::Error;

/// Jobs whose hint matches a pattern take so many slots. Written `PATTERN=SLOTS`, such as `*-armhf=2`.
///
/// In a pattern, `*` stands for any text, `?` for any character and `[abc]` for one of these. All others, and the case of letters,
/// must be the same. The whole first line of the hint has to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    pattern: Pattern,
    slots: u32,
}

/// Why a text is not a weight.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WeightError {
    /// No number behind an equals sign.
    #[error(
        "{0:?} does not say how many slots its jobs take: write PATTERN=SLOTS, such as \"*-arm64-*=2\""
    )]
    Form(String),
    /// Zero, or no number at all.
    #[error(
        "{slots:?} is not a number of slots: jobs with a hint like {pattern:?} take at least 1"
    )]
    Slots {
        /// The pattern in front of it.
        pattern: String,
        /// What was given.
        slots: String,
    },
    /// Not a pattern.
    #[error("{pattern:?} is not a pattern for cache hints: {reason}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl FromStr for Weight {
    type Err = WeightError;

    /// The number stands behind the last equals sign: a pattern may have some of its own.
    fn from_str(text: &str) -> Result<Self, WeightError> {
        let (pattern, slots) = text
            .rsplit_once('=')
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| WeightError::Form(text.to_owned()))?;
        let slots = match slots.parse() {
            Ok(0) | Err(_) => {
                return Err(WeightError::Slots {
                    pattern: pattern.to_owned(),
                    slots: slots.to_owned(),
                });
            }
            Ok(slots) => slots,
        };
        match Pattern::new(pattern) {
            Ok(pattern) => Ok(Self { pattern, slots }),
            Err(error) => Err(WeightError::Pattern {
                pattern: pattern.to_owned(),
                reason: error.msg,
            }),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.slots)
    }
}

/// All weights of a worker. Where several patterns match, the first counts; a job that none matches takes one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(Vec<Weight>);

impl Weights {
    /// How many slots a job with this cache hint takes. Only the first line of the hint is looked at, as OCluster does.
    #[must_use]
    pub fn of(&self, hint: &str) -> u32 {
        let first_line = hint.split('\n').next().unwrap_or_default();
        let mut weights = self.0.iter();
        weights
            .find(|weight| weight.pattern.matches(first_line))
            .map_or(1, |weight| weight.slots)
    }

    /// The first weight that a worker with this many slots could never keep to.
    #[must_use]
    pub fn beyond(&self, capacity: u32) -> Option<&Weight> {
        self.0.iter().find(|weight| weight.slots > capacity)
    }
}

impl FromIterator<Weight> for Weights {
    fn from_iter<T: IntoIterator<Item = Weight>>(weights: T) -> Self {
        Self(weights.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(texts: &[&str]) -> Weights {
        texts
            .iter()
            .map(|text| text.parse::<Weight>().unwrap())
            .collect()
    }

    fn error(text: &str) -> String {
        text.parse::<Weight>().unwrap_err().to_string()
    }

    #[test]
    fn d22_no_name_weighs_anything_unless_the_operator_says_so() {
        let none = Weights::default();
        for hint in ["tezos/tezos-x86_64", "octez", ""] {
            assert_eq!(none.of(hint), 1);
        }
        // Whoever wants what OCluster does says so.
        let upstream = weights(&["*octez*=3", "*tezos*=2"]);
        assert_eq!(upstream.of("nomadic-labs/tezos\nplan"), 2);
        assert_eq!(upstream.of("tezos/octez.1.2"), 3);
        assert_eq!(upstream.of("mirage/irmin"), 1);
    }

    #[test]
    fn the_first_line_of_a_hint_is_what_matters_and_the_first_match_counts() {
        let weights = weights(&["a?c=2", "a*=3", "x=1=4", "[0-9]*=5"]);
        assert_eq!(weights.of("abc\nanything"), 2);
        assert_eq!(weights.of("abbc"), 3);
        assert_eq!(weights.of("a/b/c"), 3, "a slash is a letter like others");
        assert_eq!(weights.of("x=1"), 4);
        assert_eq!(weights.of("7up"), 5);
        assert_eq!(weights.of("b\nabc"), 1);
        assert_eq!(weights.of("ABC"), 1);
    }

    #[test]
    fn hints_made_to_be_slow_to_match_are_not() {
        let pattern = format!("{}b=2", "*a".repeat(40));
        let weights = weights(&[&pattern]);
        assert_eq!(weights.of(&"a".repeat(20_000)), 1);
    }

    #[test]
    fn what_is_no_weight_says_how_to_write_one() {
        for text in ["", "octez", "=3"] {
            let error = error(text);
            assert!(error.contains("write PATTERN=SLOTS"), "{text}: {error}");
        }
        for text in [
            "octez=",
            "octez=0",
            "octez=-1",
            "octez=many",
            "octez=4294967296",
        ] {
            let error = error(text);
            assert!(
                error.contains("is not a number of slots"),
                "{text}: {error}"
            );
        }
        assert!(error("[a=2").contains("\"[a\" is not a pattern for cache hints: "));
    }

    #[test]
    fn a_weight_that_fits_no_worker_of_this_size_is_found() {
        let weights = weights(&["a=2", "b=5", "c=9"]);
        assert_eq!(weights.beyond(4).unwrap().to_string(), "b=5");
        assert_eq!(weights.beyond(9), None);
    }
}
