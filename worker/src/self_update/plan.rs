//! How this worker would be updated: decided once, when it starts.

use std::path::Path;

use super::error::UpdateError;
use super::program::ProgramFile;
use super::service::ServiceImage;

/// The file that Docker puts into each container.
const CONTAINER_MARK: &str = "/.dockerenv";

/// How a worker updates itself.
#[derive(Clone, Debug)]
pub enum SelfUpdate {
    /// It cannot: it runs in a container, which is somebody else's to replace.
    InContainer,
    /// Somebody has replaced its program file, and its supervisor starts it again: systemd, for example.
    Program(ProgramFile),
    /// It is a service of a Docker swarm, which gets a newer image.
    Service(Box<ServiceImage>),
}

/// What was prepared, to be carried out when no job runs.
#[derive(Debug)]
pub(super) enum Prepared {
    /// The supervisor finds the new program by itself.
    Program,
    /// The service gets this image.
    Service(Box<ServiceImage>, String),
}

impl Default for SelfUpdate {
    fn default() -> Self {
        Self::of_this_process(None)
    }
}

impl SelfUpdate {
    /// What suits the flags and this process: a service if there is one to update, else the program file, except in a container, whose
    /// files are those of its image however often it is restarted.
    #[must_use]
    pub fn of_this_process(service: Option<ServiceImage>) -> Self {
        let in_container = Path::new(CONTAINER_MARK).exists();
        Self::choose(service, in_container, ProgramFile::of_this_process)
    }

    fn choose(
        service: Option<ServiceImage>,
        in_container: bool,
        program: impl FnOnce() -> ProgramFile,
    ) -> Self {
        match service {
            Some(service) => Self::Service(Box::new(service)),
            None if in_container => Self::InContainer,
            None => Self::Program(program()),
        }
    }

    /// Makes sure that the newer version is there and can run. Dropping the future gives up and changes nothing.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) async fn prepare(&self) -> Result<Prepared, UpdateError> {
        match self {
            Self::InContainer => Err(UpdateError::InContainer),
            Self::Program(program) => program.check().await.map(|()| Prepared::Program),
            Self::Service(service) => {
                let image = service.pull().await?;
                Ok(Prepared::Service(service.clone(), image))
            }
        }
    }
}

impl Prepared {
    /// What must be done before this process ends, if anything.
    ///
    /// # Errors
    /// Why it could not be done.
    pub(super) async fn finish(self) -> Result<(), UpdateError> {
        match self {
            Self::Program => Ok(()),
            Self::Service(service, image) => service.deploy(&image).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::DockerConfig;

    fn service() -> ServiceImage {
        ServiceImage {
            image: "registry.example:5000/worker:live".parse().unwrap(),
            service: "builder".to_owned(),
            engine: DockerConfig::default(),
        }
    }

    fn program() -> ProgramFile {
        ProgramFile::at("/usr/bin/ocluster-worker")
    }

    #[tokio::test]
    async fn in_a_container_the_flags_are_needed_and_named() {
        let plan = SelfUpdate::choose(None, true, program);
        let words = plan.prepare().await.unwrap_err().to_string();
        assert!(words.contains("--update-image=REPO:TAG"), "{words}");
        assert!(words.contains("--update-service=NAME"), "{words}");
    }

    #[test]
    fn the_flags_decide_and_else_the_place() {
        assert!(matches!(
            SelfUpdate::choose(Some(service()), true, program),
            SelfUpdate::Service(_)
        ));
        // The mark may be missing: other engines do not write it.
        assert!(matches!(
            SelfUpdate::choose(Some(service()), false, program),
            SelfUpdate::Service(_)
        ));
        assert!(matches!(
            SelfUpdate::choose(None, false, program),
            SelfUpdate::Program(_)
        ));
    }
}
