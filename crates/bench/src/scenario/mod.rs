//! Scenarios: what a scheduler is measured with, one after the other, each with figures and what these must reach.
//!
//! Layout: `file` reads `scenarios.toml`; `measure` is what a kind of scenario is to the rest, and `kinds` holds them, one file each;
//! `figures` and `threshold` are what they give and what is asked of it; `lab` and `site` are the schedulers that are measured;
//! `report` and `compare` are the results, `args` the command lines.

pub mod args;
mod compare;
mod figures;
mod file;
pub mod kinds;
mod lab;
mod measure;
mod report;
mod site;
mod threshold;

pub use compare::Comparison;
pub use figures::{FigureKind, Figures};
pub use file::{Form, Scenario, Scenarios};
pub use lab::{Given, Lab};
pub use measure::{Kind, Measure};
pub use report::{Outcome, Report};
pub use site::{START_LIMIT, Site};
pub use threshold::Threshold;
