//! How a builder builds.

use crate::image::PullPolicy;
use crate::sandbox::Limits;

/// How a builder builds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuilderOptions {
    /// How many stages of one build may work at once; at least one.
    pub parallel_stages: usize,
    /// When to look again what a base image's name stands for.
    pub pull: PullPolicy,
    /// What each step may use at most.
    pub limits: Limits,
}

impl Default for BuilderOptions {
    fn default() -> Self {
        Self {
            parallel_stages: 2,
            pull: PullPolicy::default(),
            limits: Limits::default(),
        }
    }
}
