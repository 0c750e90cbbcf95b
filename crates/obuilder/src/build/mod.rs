//! Evaluates specs.
//!
//! ```text
//! builder      the builder as its users see it: build, prune, statistics
//!   healthcheck  builds something small to see whether it can
//! plan         a spec's stages, what they take from each other, and the order in which all is told
//! stage        evaluates one stage, operation after operation; turns says how many do so at once
//! telling      reads out what the stages have to tell, in serial order
//! share        steps under way, shared between builds; feed is what such a step tells
//! engine       makes a step, once more if the disk was full (room)
//!   base         a base image
//!   layered      a change to the step before: run, or copying
//! ```

mod base;
mod builder;
mod contract;
mod copying;
mod engine;
mod fault;
mod feed;
mod healthcheck;
mod layered;
mod options;
mod place;
mod plan;
mod room;
mod run;
mod share;
mod stage;
mod telling;
mod turns;
mod words;

pub use builder::{BuildResult, BuildStats, Builder};
pub use contract::{BuildContext, BuildError, BuildLog, Secrets};
pub use options::BuilderOptions;
