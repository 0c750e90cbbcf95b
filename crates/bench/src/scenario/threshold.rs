//! What a figure must reach, in the long form of a scenario and, where it says so, in the short one.

use std::fmt;

use anyhow::ensure;
use serde::Deserialize;

use super::file::Form;

/// A bound as `scenarios.toml` has it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    at_most: Option<f64>,
    at_least: Option<f64>,
    short_at_most: Option<f64>,
    short_at_least: Option<f64>,
}

/// A bound that is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// The figure must not be larger.
    AtMost(f64),
    /// The figure must not be smaller.
    AtLeast(f64),
}

impl Bounds {
    /// Checks that there is a bound, and that those of the two forms are of one kind.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let most = self.at_most.or(self.short_at_most).is_some();
        let least = self.at_least.or(self.short_at_least).is_some();
        ensure!(most || least, "it has no bound");
        ensure!(
            most != least,
            "a figure must be at most something or at least something, not both"
        );
        Ok(())
    }

    /// The bound for this form. The short form is judged only where it has a bound of its own: programs that were not optimised
    /// cannot be expected to be fast.
    pub(super) fn of(&self, form: Form) -> Option<Threshold> {
        let (most, least) = match form {
            Form::Long => (self.at_most, self.at_least),
            Form::Short => (self.short_at_most, self.short_at_least),
        };
        most.map(Threshold::AtMost)
            .or(least.map(Threshold::AtLeast))
    }
}

impl Threshold {
    /// Whether a figure is good enough.
    #[must_use]
    pub fn is_kept_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(toml: &str) -> Bounds {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn the_short_form_is_judged_only_where_it_has_a_bound() {
        let both = bounds("at_most = 2\nshort_at_most = 8.0");
        assert_eq!(both.of(Form::Long), Some(Threshold::AtMost(2.0)));
        assert_eq!(both.of(Form::Short), Some(Threshold::AtMost(8.0)));
        let long = bounds("at_least = 5000");
        assert_eq!(long.of(Form::Long), Some(Threshold::AtLeast(5000.0)));
        assert_eq!(long.of(Form::Short), None);
    }

    #[test]
    fn a_bound_is_above_or_below_and_nothing_else() {
        for wrong in [
            "",
            "at_most = 1\nat_least = 1",
            "at_most = 1\nshort_at_least = 1",
        ] {
            assert!(bounds(wrong).check().is_err(), "{wrong}");
        }
        assert!(toml::from_str::<Bounds>("at_mots = 1").is_err());
        for right in ["at_most = 1\nshort_at_most = 3", "short_at_least = 1"] {
            bounds(right).check().unwrap();
        }
    }

    #[test]
    fn a_bound_includes_its_value() {
        assert!(Threshold::AtMost(2.0).is_kept_by(2.0) && !Threshold::AtMost(2.0).is_kept_by(2.1));
        assert!(
            Threshold::AtLeast(2.0).is_kept_by(2.0) && !Threshold::AtLeast(2.0).is_kept_by(1.9)
        );
    }
}
