//! A day of a large farm: seeded arrivals run through the scheduling core, and what came of it for workers and clients.

mod args;
mod cache;
mod farm;
mod load;
mod report;
mod shares;

pub use args::DayArgs;
pub use report::{DayReport, Outcome};
