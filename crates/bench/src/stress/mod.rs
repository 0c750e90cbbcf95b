//! OCluster's stress shape: five large workers, one client that submits a day's work at once, and another whose urgent jobs must not
//! wait for it.
//!
//! Layout: `run` is the measurement, `fleet` are the workers, `crowd` the clients.

mod crowd;
mod fleet;
mod run;

pub use run::{Plan, Stress, measure};
