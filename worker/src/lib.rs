//! The worker agent: joins a pool, takes jobs, runs them and streams their logs.
//!
//! Use it to write a worker for a kind of job of your own: implement [`Executor`], put it into [`Executors::custom`] under the name of
//! the kind, and [`run`] with a [`Config`]. `worker/examples/custom_worker.rs` is a complete one. Connections, the queue, logs, slots,
//! cancellation and what a job leaves behind are taken care of. The library never reads command lines or the environment, except in
//! [`args`], which is the program's own.
//!
//! Layout: [`agent`] keeps the worker in its pool, whatever happens to the connection; `session` is one stay there; `service` is
//! what the scheduler can ask of the worker itself; `job` is what the scheduler sees of a job, and keeps those that outlive a lost
//! connection; `runner` is what happens to a job here: build context, [`executor`], last log line. `identity` and `facts` are what the
//! worker says of itself when it joins. `slots` counts what runs, [`weights`] says what counts for more, `state_dir` owns the
//! files, [`disk_care`] prunes Docker when its disk fills up, `health` looks whether it works, `standing` tells the scheduler of that,
//! `status` the service manager, [`self_update`] gives way to a newer version, [`metrics`] counts all that.
//!
//! Two kinds of threads: everything that speaks to the scheduler lives on the vat thread; jobs run on a pool of ordinary threads and
//! report through channels. A job's trouble, a panic included, is that job's alone.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod agent;
pub mod args;
pub mod disk_care;
pub mod executor;
pub mod metrics;
pub mod self_update;
pub mod weights;

mod facts;
mod git_child;
mod health;
mod identity;
mod job;
mod mirrors;
mod runner;
mod service;
mod session;
mod slots;
mod standing;
mod state_dir;
mod status;
mod surroundings;
mod trouble;

pub use agent::{Config, Ended, PRUNE_RETRY, RECONNECT_GRACE, run};
pub use executor::{Cause, Execution, Executor, Executors, Failure, JobContext, JobLog, Outcome};
pub use git_child::as_git_child;
pub use health::HEALTH_CHECK_PERIOD;
pub use metrics::Metrics;
pub use ocluster_api::{Action, CustomJob, JobSpec, Secret};
pub use ocluster_vat::SturdyRef;
pub use surroundings::Surroundings;
