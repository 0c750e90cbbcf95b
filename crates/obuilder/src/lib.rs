//! The OBuilder engine: builds of step after step, each in a sandbox, each kept for the next build that asks for the same.
//!
//! ```text
//! engine     all of what follows, put together
//! build/     evaluates a spec: ids, sharing of identical steps, stages, logs, cancelling
//!   copy/      what `copy` takes (manifests) and how it is written into a layer
//!   sandbox/   runs one command in a root filesystem: runc, limits, secrets, users
//!   image/     base images: registries, archives, directories, a Docker engine
//! store/     keeps layers and caches on a real filesystem: overlayfs, btrfs, rsync, xfs; pins, pruning, repair
//! export/    takes results out again: files, OCI images
//! rootfs     a tree of files that a step sees, and how to reach it without mounting anything for others to see
//! ```
//!
//! The library never prints and never reads configuration. What it starts it stops: a build that is cancelled leaves no process, no
//! mount and no half layer, and a store that was killed is whole again after it was opened.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod build;
pub mod copy;
mod engine;
pub mod export;
pub mod image;
mod rootfs;
pub mod sandbox;
mod size;
mod step_log;
pub mod store;

pub use engine::{Engine, EngineConfig, EngineError, ImagesConfig, RemoteImages};
pub use ocluster_obuilder_spec as spec;
pub use ocluster_obuilder_spec::StepId;
pub use rootfs::{MountError, Overlay, PreparedMount, Rootfs, Upper, unshare_mounts};
pub use step_log::{LogReader, StepLog};
