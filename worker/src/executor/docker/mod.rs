//! Docker builds with the classic builder, driven through the engine's API.
//!
//! The job's context directory is sent as a tar stream (`context`, less what `.dockerignore` names, `ignore`); what the engine
//! answers is written to the job's log as `docker build` prints it (`display`). Nothing here starts a process, so that no socket
//! can be inherited and a cancelled job has nothing to leave behind but containers, which the engine removes when its client goes away (`engine`).
//! An image may be pushed (`push`) and has a name of ours meanwhile (`images`). `housekeeping` is what the worker asks of the engine besides builds.

mod classic;
mod config;
mod context;
mod display;
mod dockerfile;
mod engine;
mod executor;
mod housekeeping;
mod ignore;
mod images;
mod pattern;
mod push;
mod units;

pub use config::{DockerConfig, EngineAddress, EngineAddressError, Pull, PullError};
pub use engine::EngineHealth;
pub use executor::DockerExecutor;
pub use housekeeping::Pruned;
pub use images::{BUILT_BY, WorkerMark};
pub use push::{AllowedRepository, AllowedRepositoryError, PushConfig, Retries};
