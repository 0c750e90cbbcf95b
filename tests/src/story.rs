//! The stage of one test: its scratch directory, the programs and the base image; and the logs, shown if it ends badly.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Error, Result};

use crate::engine::Engine;
use crate::image::BaseImage;
use crate::programs::Programs;
use crate::scratch::Scratch;
use crate::skip::skipped;

/// What every end-to-end test stands on.
pub struct Story {
    /// A directory of its own.
    pub scratch: Scratch,
    /// The four programs.
    pub programs: Programs,
}

impl Story {
    /// Runs `tell`, which needs the real parts named by `needs` (see [`SKIP_VARIABLE`](crate::SKIP_VARIABLE)).
    ///
    /// # Errors
    ///
    /// Those of `tell`, with the end of every log.
    pub fn tell(needs: &[&str], tell: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        if skipped(needs) {
            return Ok(());
        }
        Self::tell_with(Programs::find()?, tell)
    }

    /// Runs `tell` with these programs.
    ///
    /// # Errors
    ///
    /// Those of `tell`, with the end of every log.
    pub fn tell_with(programs: Programs, tell: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let story = Self {
            scratch: Scratch::new()?,
            programs,
        };
        match catch_unwind(AssertUnwindSafe(|| tell(&story))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::msg(format!("{error:#}\n{}", story.scratch.logs()))),
            Err(panic) => {
                show(&story.scratch.logs());
                resume_unwind(panic)
            }
        }
    }

    /// The Docker engine that all stories share.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn engine(&self) -> Result<Engine> {
        Engine::shared()
    }

    /// The base image of all builds, in the shared engine.
    ///
    /// # Errors
    ///
    /// When the engine does not answer or busybox is not installed.
    pub fn base_image(&self) -> Result<BaseImage> {
        BaseImage::in_engine(&self.engine()?)
    }
}

/// Writes to stderr past the test runner's capture.
pub(crate) fn show(text: &str) {
    // There is nobody to tell if stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
