//! Docker builds with either of the engine's builders, driven through the engine's API.
//!
//! The classic builder gets the job's context directory as a tar stream (`context`); BuildKit, in `buildkit`, asks for files one by
//! one. Both get it less what `.dockerignore` names (`ignore`, `walk`). What the engine answers is written to the job's log as
//! `docker build` prints it (`display`). An image may be pushed (`push`) and has a name of ours meanwhile (`images`). Nothing here
//! starts a process, so that no socket can be inherited and a cancelled job has nothing to leave behind but what the engine ends when
//! its client goes away (`started`); the one exception are helpers that keep the logins for base images (`logins`). `housekeeping` is what the worker asks of the engine besides builds.

mod build_args;
mod buildkit;
mod classic;
mod config;
mod context;
mod display;
mod dockerfile;
pub(crate) mod engine;
mod executor;
#[cfg(test)]
mod fake_engine;
mod housekeeping;
mod ignore;
mod images;
mod limits;
mod logins;
mod pattern;
mod push;
mod started;
mod units;
mod walk;

pub use config::{DockerConfig, EngineAddress, EngineAddressError, Pull, PullError};
pub use engine::EngineHealth;
pub use executor::DockerExecutor;
pub use housekeeping::{PruneScope, PruneScopeError, Pruned};
pub use images::{BUILT_BY, WorkerMark};
pub use limits::{
    BuildCpus, BuildCpusError, BuildLimits, BuildMemory, BuildMemoryError, BuildNetwork,
    BuildNetworkError,
};
pub use push::{AllowedRepository, AllowedRepositoryError, PushConfig, Retries};
