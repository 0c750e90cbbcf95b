//! The load driver: workers and clients that speak nothing but the frozen protocol, so that they can drive any OCluster scheduler.
//!
//! Layout: `fleet` are the workers and `crowd` the clients, each on a thread of its own (`thread`), so that neither's work shows in
//! the other's waits; `job_time` says how long jobs take; `steady` is what a scheduler costs while both keep it busy.

mod crowd;
mod fleet;
mod job_time;
mod steady;
pub(crate) mod thread;

pub use crowd::{Crowd, CrowdPlan, Pace, Tally};
pub use fleet::{Fleet, FleetPlan};
pub(crate) use fleet::{NoMetrics, register};
pub use job_time::JobTime;
pub use steady::{Steady, SteadyLoad};
