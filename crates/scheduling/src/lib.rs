//! The scheduling core of OCluster: which job goes to which worker, and when.
//!
//! [`Cluster`] is a pure function of (state, now, event): it performs no I/O, reads no clock, starts no thread and draws
//! no random number. The scheduler program feeds it [`Event`]s and performs the [`Effect`]s it answers with. The same
//! events at the same times give the same effects, always; `clippy.toml` beside this crate bans what would break that.
//!
//! Where to read on: [`policy`] says in words what is decided, [`event`] and [`effect`] are the whole language spoken
//! with the outside, [`view`] is what may be looked at.

mod cluster;
pub mod config;
pub mod effect;
pub mod event;
pub mod explain;
pub mod ids;
pub mod policy;
mod pool;
pub mod rate;
pub mod reasons;
pub mod record;
pub mod show;
pub mod time;
pub mod view;

pub use cluster::Cluster;
pub use config::{Config, Costs, PoolConfig, RunningQuota};
pub use effect::{Effect, Effects, Fact, Refusal, TakenFrom};
pub use event::Event;
pub use explain::{Explanation, Waits, WhyNot};
pub use ids::{ClientId, Hint, JobId, PoolName, PopId, WorkerId, WorkerName};
pub use policy::{Policy, PolicyError};
pub use rate::{Rate, RateError};
pub use reasons::{AdminPause, PauseNote, Reason, Reasons};
pub use record::Record;
pub use time::{Day, DayError, Timestamp};
