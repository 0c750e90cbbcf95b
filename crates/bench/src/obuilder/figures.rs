//! What was measured, and what it must keep to.

use std::fmt;

use serde::Serialize;

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Obuilder {
    /// One after the other.
    pub figures: Vec<Figure>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// What it must keep to, if that is known.
    pub limit: Option<Limit>,
    /// What it is made of.
    pub details: String,
}

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// It must be this or more.
    AtLeast(f64),
    /// It must be below this.
    Below(f64),
}

impl Figure {
    /// Whether it keeps to its limit.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self.limit {
            Some(Limit::AtLeast(least)) => self.value >= least,
            Some(Limit::Below(most)) => self.value < most,
            None => true,
        }
    }
}

impl Obuilder {
    /// Whether all keep to their limits.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.figures.iter().all(Figure::is_good)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2} {}", self.name, self.value, self.unit)?;
        match self.limit {
            Some(Limit::AtLeast(least)) => write!(f, " (must be at least {least})")?,
            Some(Limit::Below(most)) => write!(f, " (must be below {most})")?,
            None => {}
        }
        if !self.is_good() {
            f.write_str(" MISSED")?;
        }
        write!(f, "; {}", self.details)
    }
}

impl fmt::Display for Obuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, figure) in self.figures.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            figure.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, limit: Option<Limit>) -> Figure {
        Figure {
            name: "time".to_owned(),
            value,
            unit: "ms",
            limit,
            details: "of 3".to_owned(),
        }
    }

    #[test]
    fn a_figure_shows_its_limit_and_whether_it_keeps_to_it() {
        let good = figure(9.5, Some(Limit::Below(10.0)));
        assert_eq!(good.to_string(), "time: 9.50 ms (must be below 10); of 3");
        let bad = figure(0.25, Some(Limit::AtLeast(0.5)));
        assert_eq!(
            bad.to_string(),
            "time: 0.25 ms (must be at least 0.5) MISSED; of 3"
        );
        assert!(good.is_good() && !bad.is_good());
        assert!(!figure(10.0, Some(Limit::Below(10.0))).is_good());
        assert!(figure(0.5, Some(Limit::AtLeast(0.5))).is_good());
        assert!(figure(1e9, None).is_good());
    }
}
