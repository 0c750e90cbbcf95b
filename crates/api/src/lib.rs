//! What travels between OCluster's programs.
//!
//! Two layers. [`cluster_capnp`], [`persistent_capnp`] and [`extensions_capnp`] are generated from `schema/` and mirror the wire;
//! everything else is plain Rust, converted from and to the wire types exactly once, at a program's edge, and checked there:
//! - [`JobSpec`] is a job description that somebody means to *act on* (a worker) or to *make* (a client);
//! - [`Descriptor`] is a job description that somebody only *keeps and forwards* (the scheduler): its wire form, whole, with the
//!   fields we have never heard of.
//!
//! This crate does no I/O and must never learn to: it knows no runtime, no files and no clock.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

mod custom_text;
mod descriptor;
mod image;
mod job;
mod secret;
mod strip;
mod test_job;
pub mod wire;

pub use custom_text::PayloadTextError;
pub use descriptor::{Descriptor, DescriptorError};
pub use image::{ImageTarget, ImageTargetError, is_repository, registry_of};
pub use job::{
    Action, CustomJob, DockerBuild, Dockerfile, GitSource, JobSpec, JobSpecError, Push,
    RegistryLogin,
};
pub use secret::{Secret, SecretBytes};
pub use test_job::{TEST_KIND, TestJobError, TestStep, read_test_job, test_job};
pub use wire::{cluster_capnp, extensions_capnp, persistent_capnp};
