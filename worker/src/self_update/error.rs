//! Why a worker did not update itself, for the admin who asked.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why there was no update. Whatever it is, the worker goes on working.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// In a container, and nobody said of which image and service.
    #[error(
        "this worker runs in a container and was not told how to update it: start it with --update-image=REPO:TAG and \
         --update-service=NAME if it is a service of a Docker swarm, with --update-program if its program file is replaced within \
         the container, or else replace the container yourself"
    )]
    InContainer,
    /// The worker was started in a way that does not tell where its program is.
    #[error("the worker does not know where its program file is: {0}")]
    NoProgram(String),
    /// The program that would be started next does not run.
    #[error(
        "{path} cannot be run as the next worker: {reason}; install a working program and update again"
    )]
    BrokenProgram {
        /// The program file.
        path: PathBuf,
        /// What went wrong with it.
        reason: String,
    },
    /// The image could not be had.
    #[error("cannot pull {image}: {reason}")]
    Pull {
        /// The image's name with its tag.
        image: String,
        /// What the engine said.
        reason: String,
    },
    /// The image is there, but has no digest under that name.
    #[error("{image} was pulled, but no digest of it starts with \"{repository}@\"")]
    NoDigest {
        /// The image's name with its tag.
        image: String,
        /// The name without the tag.
        repository: String,
    },
    /// The service could not be looked at or changed.
    #[error("cannot update the service {service:?} of the Docker swarm: {reason}")]
    Service {
        /// The service's name.
        service: String,
        /// What the engine said.
        reason: String,
    },
    /// No engine.
    #[error("{0}")]
    Engine(String),
    /// Jobs run and run.
    #[error(
        "jobs still run after {} hours of waiting: cancel them, or update again",
        .0.as_secs() / 3600
    )]
    StillBusy(Duration),
    /// Two admins at once.
    #[error("an update of this worker is under way already")]
    UnderWay,
    /// A defect of ours.
    #[error("the update crashed: {0}")]
    Crashed(String),
}
