//! OCluster's stress shape: five large workers, one client that submits a day's work at once, and another whose urgent jobs must not
//! wait for it.
//!
//! Layout: `run` is the measurement, `crowd` are the clients; the workers are those of the load driver.

mod crowd;
mod run;

pub use run::{Plan, Stress, measure};
