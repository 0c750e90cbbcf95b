//! Docker builds with the classic builder, driven through the engine's API.
//!
//! The job's context directory is sent as a tar stream (`context`, less what `.dockerignore` names, `ignore`); what the engine
//! answers is written to the job's log as `docker build` prints it (`display`). Nothing here starts a process, so that no socket
//! can be inherited and a cancelled job has nothing to leave behind but containers, which the engine removes when its client goes away (`engine`).
//! `housekeeping` is what the worker asks of the engine besides builds.

mod classic;
mod config;
mod context;
mod display;
mod dockerfile;
pub(crate) mod engine;
mod executor;
mod housekeeping;
mod ignore;
mod pattern;
mod units;

pub use config::{DockerConfig, EngineAddress, EngineAddressError, Pull, PullError};
pub use engine::EngineHealth;
pub use executor::DockerExecutor;
pub use housekeeping::Pruned;
