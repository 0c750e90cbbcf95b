//! What OBuilder builds cost above the programs that they are made of: a bare container runtime, and `skopeo` with `umoci`.
//!
//! ```text
//! args       the command line, and the order of things
//! figures    what was measured, and what it must keep to
//! lab        a store, a sandbox and an image of busybox, in a directory of its own
//! bare       the same containers, started by nothing but the runtime
//! steps      steps: many at once, one at a time, all of them cached, one that prints a lot
//! pull       a base image from a registry
//! ```
//!
//! Everything is measured within one run, so that a machine which does other things as well disturbs both sides alike. It needs root,
//! `runc`, a static `busybox`; and `docker-registry`, `skopeo` and `umoci` for pulls.

mod args;
mod bare;
mod figures;
mod lab;
mod pull;
mod steps;

pub use args::ObuilderArgs;
pub use figures::{Figure, Obuilder};
