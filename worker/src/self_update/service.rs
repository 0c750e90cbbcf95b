//! A worker that is a service of a Docker swarm: it pulls the image that its tag names now, and has the service use exactly that one,
//! by digest, so that every node runs the same.
//!
//! The engine must be a manager of the swarm. Nothing of the service but its image is changed.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{CreateImageInfo, Service, ServiceSpec, TaskSpecContainerSpec};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, InspectServiceOptions, UpdateServiceOptionsBuilder,
};
use futures::TryStreamExt as _;
use ocluster_api::ImageTarget;
use tokio::time::timeout;
use tracing::info;

use super::error::UpdateError;
use crate::executor::DockerConfig;
use crate::executor::docker::engine;

/// How long a pull may take. A worker's image is small; a registry that is away must not keep the worker from its jobs.
const PULL_LIMIT: Duration = Duration::from_secs(20 * 60);
/// How long the engine may take to answer anything else.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The service that a worker runs in, and the image to give it.
#[derive(Clone, Debug)]
pub struct ServiceImage {
    /// The image to pull, by its tag.
    pub image: ImageTarget,
    /// The service's name.
    pub service: String,
    /// The engine to ask, a manager of the swarm.
    pub engine: DockerConfig,
}

impl ServiceImage {
    /// Makes sure that there is such a service, pulls the image, and gives its name with the digest.
    ///
    /// # Errors
    /// If the engine, the swarm, the service, the registry or the image is not there.
    pub(super) async fn pull(&self) -> Result<String, UpdateError> {
        let docker = self.connect(ANSWER_LIMIT).await?;
        // Seen now rather than after all jobs have been waited for.
        self.look(&docker).await?;
        info!(image = %self.image, "Pulling the worker's next image");
        let pulled = timeout(PULL_LIMIT, self.pull_image()).await;
        let pulled = pulled.unwrap_or_else(|_| {
            let minutes = PULL_LIMIT.as_secs() / 60;
            Err(self.pull_failed(format!("it has not come within {minutes} minutes")))
        })?;
        let inspected = docker.inspect_image(&self.image.to_string()).await;
        let digests = inspected
            .map_err(|error| self.pull_failed(words(error)))?
            .repo_digests
            .unwrap_or_default();
        choose_digest(self.image.repository(), &digests, pulled.as_deref()).ok_or_else(|| {
            UpdateError::NoDigest {
                image: self.image.to_string(),
                repository: self.image.repository().to_owned(),
            }
        })
    }

    /// Has the service use this image. The swarm then replaces its containers, this one included.
    ///
    /// # Errors
    /// If the service is gone, or the swarm refuses.
    pub(super) async fn deploy(&self, image: &str) -> Result<(), UpdateError> {
        let docker = self.connect(ANSWER_LIMIT).await?;
        let service = self.look(&docker).await?;
        let version = service.version.and_then(|version| version.index);
        let spec = service.spec.and_then(|spec| with_image(spec, image));
        let (Some(version), Some(spec)) = (version, spec) else {
            return Err(self.failed("it is not one that runs containers".to_owned()));
        };
        let version = i32::try_from(version)
            .map_err(|_| self.failed("its version is out of range".to_owned()))?;
        // Logins that the service was given stay with it.
        let options = UpdateServiceOptionsBuilder::new()
            .version(version)
            .registry_auth_from("spec")
            .build();
        let updated = docker.update_service(&self.service, spec, options, None);
        updated.await.map_err(|error| self.failed(words(error)))?;
        info!(
            service = self.service,
            image, "The service gets a new image"
        );
        Ok(())
    }

    async fn connect(&self, limit: Duration) -> Result<Docker, UpdateError> {
        let failed = |failure: crate::executor::Failure| UpdateError::Engine(failure.message);
        let docker = engine::connect(&self.engine).map_err(failed)?;
        engine::health(&docker, &self.engine.engine)
            .await
            .map_err(failed)?;
        Ok(docker.with_timeout(limit))
    }

    async fn look(&self, docker: &Docker) -> Result<Service, UpdateError> {
        docker
            .inspect_service(&self.service, None::<InspectServiceOptions>)
            .await
            .map_err(|error| self.failed(words(error)))
    }

    /// Pulls, and gives the digest that the engine says the tag names now, if it says so.
    async fn pull_image(&self) -> Result<Option<String>, UpdateError> {
        let docker = self.connect(PULL_LIMIT).await?;
        let options = CreateImageOptionsBuilder::new()
            .from_image(self.image.repository())
            .tag(self.image.tag())
            .build();
        let mut messages = docker.create_image(Some(options), None, None);
        let mut digest = None;
        let failed = |error| self.pull_failed(words(error));
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            digest = told_digest(&message).or(digest);
        }
        Ok(digest)
    }

    fn pull_failed(&self, reason: String) -> UpdateError {
        UpdateError::Pull {
            image: self.image.to_string(),
            reason,
        }
    }

    fn failed(&self, reason: String) -> UpdateError {
        UpdateError::Service {
            service: self.service.clone(),
            reason,
        }
    }
}

/// The engine's own words, or the cause of there being none.
fn words(error: Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message,
        Error::DockerStreamError { error } => error,
        other => engine::reason(&other),
    }
}

/// `sha256:...` from the line that a pull ends with.
fn told_digest(message: &CreateImageInfo) -> Option<String> {
    let digest = message.status.as_deref()?.strip_prefix("Digest: ")?;
    Some(digest.trim().to_owned())
}

/// Of an image's names by digest, the one in this repository that was pulled, or else the first.
fn choose_digest(repository: &str, digests: &[String], pulled: Option<&str>) -> Option<String> {
    let repository = familiar(repository);
    let mut ours = digests.iter().filter_map(|name| {
        let (its, digest) = name.split_once('@')?;
        (familiar(its) == repository).then_some((name, digest))
    });
    let first = ours.clone().next();
    ours.find(|(_, digest)| Some(*digest) == pulled)
        .or(first)
        .map(|(name, _)| name.clone())
}

/// A repository as the engine writes it: without what it adds to short names.
fn familiar(repository: &str) -> &str {
    let of_hub = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|host| repository.strip_prefix(host));
    match of_hub {
        Some(path) => path.strip_prefix("library/").unwrap_or(path),
        None => repository,
    }
}

/// The same service with another image, if it is one that runs containers.
fn with_image(mut spec: ServiceSpec, image: &str) -> Option<ServiceSpec> {
    let task = spec.task_template.as_mut()?;
    let container: &mut TaskSpecContainerSpec = task.container_spec.as_mut()?;
    container.image = Some(image.to_owned());
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(repository: &str, digests: &[&str], pulled: Option<&str>) -> Option<String> {
        let digests: Vec<String> = digests.iter().map(|name| (*name).to_owned()).collect();
        choose_digest(repository, &digests, pulled)
    }

    #[test]
    fn the_digest_is_that_of_the_repository_that_was_asked_for() {
        let digests = [
            "a/worker@sha256:1",
            "b/worker@sha256:2",
            "b/worker@sha256:3",
        ];
        let second = Some("b/worker@sha256:2".to_owned());
        assert_eq!(choose("b/worker", &digests, None), second);
        assert_eq!(choose("b/worker", &digests, Some("sha256:9")), second);
        let third = Some("b/worker@sha256:3".to_owned());
        assert_eq!(choose("b/worker", &digests, Some("sha256:3")), third);
        assert_eq!(choose("worker", &digests, Some("sha256:1")), None);
        assert_eq!(choose("b/worker", &[], None), None);
    }

    #[test]
    fn names_of_the_hub_may_be_long_or_short() {
        let short = ["ocurrent/worker@sha256:1"];
        let found = Some(short[0].to_owned());
        assert_eq!(choose("docker.io/ocurrent/worker", &short, None), found);
        assert_eq!(
            choose("docker.io/library/tool", &["tool@sha256:1"], None),
            Some("tool@sha256:1".to_owned())
        );
        assert_eq!(
            choose("registry.example/ocurrent/worker", &short, None),
            None
        );
    }

    #[test]
    fn only_a_line_about_the_digest_tells_it() {
        let line = |status: &str| CreateImageInfo {
            status: Some(status.to_owned()),
            ..CreateImageInfo::default()
        };
        assert_eq!(
            told_digest(&line("Digest: sha256:1")),
            Some("sha256:1".to_owned())
        );
        assert_eq!(told_digest(&line("Status: Image is up to date")), None);
        assert_eq!(told_digest(&CreateImageInfo::default()), None);
    }
}
