//! What a kind of scenario is to the rest: a name, parameters, the figures it gives, and how to measure them.

use futures::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::{FigureKind, Figures, Lab};

/// A kind of scenario. The value is its parameters, read from `scenarios.toml`; let them be `deny_unknown_fields`.
pub trait Measure: DeserializeOwned + 'static {
    /// As `kind` in `scenarios.toml` names it.
    const NAME: &'static str;

    /// All figures it gives, in the order in which they are shown.
    const FIGURES: &'static [FigureKind];

    /// Measures. Runs in a [`tokio::task::LocalSet`]; whatever it starts ends with it, also if it is dropped half-way.
    ///
    /// # Errors
    /// Whatever kept it from measuring. A figure that misses its threshold is no error.
    fn measure(&self, lab: &Lab) -> impl Future<Output = anyhow::Result<Figures>>;
}

/// A kind of scenario whose parameters are not known yet.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// See [`Measure::NAME`].
    pub name: &'static str,
    /// See [`Measure::FIGURES`].
    pub figures: &'static [FigureKind],
    read: fn(toml::Table) -> Result<Box<dyn Measured>, toml::de::Error>,
}

impl Kind {
    /// The kind `M`.
    #[must_use]
    pub const fn of<M: Measure>() -> Self {
        Self {
            name: M::NAME,
            figures: M::FIGURES,
            read: |table| Ok(Box::new(table.try_into::<M>()?)),
        }
    }

    /// Reads parameters.
    ///
    /// # Errors
    /// If they are not those of this kind.
    pub(super) fn read(&self, table: toml::Table) -> Result<Box<dyn Measured>, toml::de::Error> {
        (self.read)(table)
    }
}

/// A [`Measure`] whose type has been forgotten.
pub(super) trait Measured {
    /// See [`Measure::measure`].
    fn measure<'a>(&'a self, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Figures>>;
}

impl<M: Measure> Measured for M {
    fn measure<'a>(&'a self, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Figures>> {
        Box::pin(Measure::measure(self, lab))
    }
}
