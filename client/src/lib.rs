//! Submitting jobs to a cluster, following their logs and learning their results.
//!
//! ```no_run
//! # async fn example(spec: ocluster_client::JobSpec) -> Result<(), Box<dyn std::error::Error>> {
//! use ocluster_client::{Client, DialOptions, Stats, SturdyRef, Vat};
//!
//! let cap = SturdyRef::load("submission.cap".as_ref())?;
//! let client = Client::connect(&Vat::client_only(Stats::new()), &cap, &DialOptions::default()).await?;
//! let job = client.submit("linux-x86_64", &spec, false)?;
//! job.follow_into(&mut tokio::io::stdout()).await?;
//! println!("{}", job.result().await?);
//! # Ok(())
//! # }
//! ```
//!
//! `client/examples/submit.rs` is a complete program. Capabilities stay on the thread that made them: everything here runs in a [`tokio::task::LocalSet`]. The library never prints
//! and never reads configuration; what the `ocluster-client` program adds is in [`cli`].

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod cli;
mod client;
mod durable;
mod job;
mod log;
mod query;

pub use client::Client;
pub use durable::{DurableJob, DurableSpec, SubmitError};
pub use job::{FollowError, Job};
pub use ocluster_api::{
    Action, CustomJob, DockerBuild, Dockerfile, GitSource, ImageTarget, JobSpec, JobSpecError,
    Push, RegistryLogin, Secret, SecretBytes,
};
pub use ocluster_cli::jobs::{
    Attempt, Explanation, JobCause, JobInfo, JobLimits, JobPage, JobState,
};
pub use ocluster_vat::{ConnectError, DialOptions, RpcError, Stats, SturdyRef, Vat};
pub use query::{Changes, Features, JobQuery};
