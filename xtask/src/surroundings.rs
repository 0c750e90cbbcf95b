//! The Docker engine and the base image that a chore works with, for as long as it runs.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use ocluster_tests::{BASE_IMAGE_VARIABLE, BaseImage, Engine, Scratch, unique};

use crate::needs;

/// A Docker engine: the one that was there, or one of our own, which ends with us.
pub(crate) struct Surroundings {
    image: BaseImage,
    // The order matters: the engine stops before its directory goes.
    engine: Engine,
    _scratch: Scratch,
}

impl Surroundings {
    /// Finds or starts an engine, and makes the base image in it.
    pub(crate) fn prepare() -> Result<Self> {
        let scratch = Scratch::new()?;
        let engine = if needs::engine_answers() {
            let engine = Engine::shared()?;
            println!("using the Docker engine at {}", engine.host());
            engine
        } else if needs::is_root() {
            println!("no Docker engine answers: starting one for the time of this run");
            Engine::only(&scratch.join("engine"), &scratch.log_file("dockerd"))
                .with_context(|| format!("dockerd did not start:\n{}", scratch.logs()))?
        } else {
            bail!(
                "no Docker engine answers, and only root can start one: start it, and see that you may use it"
            );
        };
        let image = BaseImage::make(
            &engine,
            &format!("ocluster-tests/busybox:{}", unique("run")),
        )?;
        println!("made the base image {} from busybox", image.name());
        Ok(Self {
            image,
            engine,
            _scratch: scratch,
        })
    }

    /// Lets `command` find the engine and the image.
    pub(crate) fn export(&self, command: &mut Command) {
        command
            .env("DOCKER_HOST", self.engine.host())
            .env(BASE_IMAGE_VARIABLE, self.image.name());
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The image.
    pub(crate) fn image(&self) -> &BaseImage {
        &self.image
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        if let Err(error) = self.image.remove_with_descendants(&self.engine) {
            eprintln!(
                "xtask: the image {} is left behind: {error:#}",
                self.image.name()
            );
        }
    }
}
