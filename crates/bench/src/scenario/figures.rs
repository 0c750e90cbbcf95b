//! Figures: numbers with names and units, in the order in which people should read them.

use anyhow::{Context as _, ensure};

/// A figure that a kind of scenario gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FigureKind {
    /// By which thresholds and comparisons know it.
    pub name: &'static str,
    /// Of its value, such as `us`, `jobs/s`, or `x` for a ratio.
    pub unit: &'static str,
}

impl FigureKind {
    /// A figure with this name and unit.
    #[must_use]
    pub const fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit }
    }
}

/// The figures of one scenario.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    /// Adds a figure, in the unit that its kind says.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    /// The values of all `kinds`, in their order.
    ///
    /// # Errors
    /// If one is missing, is there twice, is no number, or is none of `kinds`: a mistake in the scenario's kind.
    pub fn in_order(&self, kinds: &[FigureKind]) -> anyhow::Result<Vec<(FigureKind, f64)>> {
        let values = kinds
            .iter()
            .map(|kind| Ok((*kind, self.value(kind.name)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(
            values.len() == self.0.len(),
            "more figures were measured than this kind of scenario is said to give"
        );
        Ok(values)
    }

    fn value(&self, name: &str) -> anyhow::Result<f64> {
        let mut found = self.0.iter().filter(|(its, _)| *its == name);
        let (_, value) = found
            .next()
            .with_context(|| format!("the figure {name} was not measured"))?;
        ensure!(
            found.next().is_none(),
            "the figure {name} was measured twice"
        );
        ensure!(value.is_finite(), "the figure {name} is no number");
        Ok(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [FigureKind; 2] = [
        FigureKind::new("rate", "jobs/s"),
        FigureKind::new("ratio", "x"),
    ];

    fn figures(pairs: &[(&'static str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (name, value) in pairs {
            figures.add(name, *value);
        }
        figures
    }

    #[test]
    fn figures_come_in_the_order_of_their_kinds() {
        let values = figures(&[("ratio", 2.0), ("rate", 1.0)])
            .in_order(&KINDS)
            .unwrap();
        assert_eq!(values, [(KINDS[0], 1.0), (KINDS[1], 2.0)]);
    }

    #[test]
    fn a_figure_that_is_missing_double_strange_or_no_number_is_a_mistake() {
        for (pairs, told) in [
            (&[("rate", 1.0)][..], "ratio was not measured"),
            (&[("rate", 1.0), ("ratio", f64::NAN)], "ratio is no number"),
            (
                &[("rate", 1.0), ("rate", 1.0), ("ratio", 1.0)],
                "rate was measured twice",
            ),
            (
                &[("rate", 1.0), ("ratio", 1.0), ("tea", 1.0)],
                "more figures",
            ),
        ] {
            let error = figures(pairs).in_order(&KINDS).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
