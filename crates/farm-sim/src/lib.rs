//! Whole clusters in simulated time, over the scheduling core alone.
//!
//! A discrete-event simulation: clients, workers and a small model of the scheduler's shell send each other messages, and
//! faults of every kind strike at random. A checker sees what clients and workers see, and holds it against what is
//! promised: an accepted job ends once; no two attempts that count run at once; a cancelled job stays cancelled; the queue
//! keeps its order, and clients get even shares; attempts are bounded; nobody idles while there is something to do.
//!
//! There is no network, no disk and no clock in it, and chance comes from a seed, so that each history can be lived again.
//! It tests the core and the shell's order of doing things, not the shell's code.
//!
//! Two more programs show how far the core reaches: [`decisions`] measures what single decisions cost in very large pools,
//! and [`day`] what a large farm gets of its policy in a day.

mod args;
mod chance;
mod checker;
mod client;
pub mod day;
pub mod decisions;
mod desk;
mod disk;
mod fault;
mod happening;
mod plan;
mod run;
mod scheduler;
mod sessions;
mod stopwatch;
mod strike;
mod timeline;
mod trace;
mod worker;
mod world;

pub use args::Args;
pub use fault::{Fault, FaultCounts};
pub use run::{History, Report, Violation, run};
pub use stopwatch::{Cost, Kind};
