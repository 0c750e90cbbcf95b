//! The scheduler: holds pools of queued jobs, hands them to the workers that dial in, and keeps every job's log and record.
//!
//! Layout: [`mod@run`] starts and stops everything. `state` is the shell around the pure core of `ocluster-scheduling`: it feeds
//! events and performs effects. `job` is one job's life in the queue, `job_run` on its worker, `follow` and `tail` what is learned from there,
//! `worker_session` one worker's stay, `clients` who may submit, `rpc/` the interfaces that peers see, `http/` and `metrics` what
//! Prometheus sees. [`migrate`] is for when no scheduler runs: it moves what one remembers to and from OCluster's.
//!
//! All of it lives on one thread, the vat thread, and never blocks it: disks are reached through the store's writer and the log
//! store, which have threads of their own. There are no locks here, and no decision about scheduling either.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod args;
pub mod command_line;
pub mod config;
pub mod migrate;
pub mod reexec;
pub mod run;
pub mod seal;
pub mod store_chores;

mod asked_pop;
mod clients;
mod clock;
mod closing;
mod default_clients;
mod durable;
mod export;
mod follow;
mod housekeeping;
mod http;
mod job;
mod job_run;
mod jobs;
mod limits_args;
mod metrics;
mod records;
mod restorer;
mod rpc;
mod space;
mod state;
mod status;
mod surroundings;
mod tail;
mod time_limits;
mod worker_session;

pub use clock::Clock;
pub use config::Config;
pub use run::{Started, run};
pub use surroundings::{Surroundings, run_in};
