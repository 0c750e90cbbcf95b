//! The OBuilder language, without any I/O: from text to a checked [`Spec`], and from there to log headings, to step ids and to a
//! Dockerfile.
//!
//! Text, model and ids are byte for byte those of OBuilder, so that its users' specs and habits keep working. Atoms are bytes, not
//! text: an argument may be in any encoding. This crate must never touch a file, a clock or the network, and never panic,
//! whatever it reads.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod boxes;
mod check;
mod dockerfile;
mod error;
mod fields;
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod model;
mod parse;
mod pretty;
mod print;
mod sexp;

pub use check::{MAX_STAGE_DEPTH, MAX_STAGES};
pub use dockerfile::{DockerfileOptions, Escape};
pub use error::SpecError;
pub use id::{CopyKey, InvalidStepId, Manifest, RunKey, StepId};
pub use model::{Cache, Copy, CopySource, Op, Run, Secret, Spec, User};
pub use pretty::{build_heading, from_heading, heading};
pub use sexp::{MAX_DEPTH, MAX_TEXT, Position, Sexp, Value, quoted};
