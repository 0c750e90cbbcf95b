//! What the worker asks of an engine besides builds: where its data is, how large its images are, and to remove what nobody uses,
//! of ours or of everybody.
//!
//! Sizes are the numbers of bytes that the engine's API gives. Nothing here reads sizes made for people, whose units (`kB`, `TB`)
//! differ from version to version.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    PruneBuildOptionsBuilder, PruneContainersOptions, PruneImagesOptionsBuilder,
    PruneNetworksOptions,
};
use futures::TryStreamExt as _;
use serde::Deserialize;
use thiserror::Error as ThisError;
use tokio::time::timeout;

use super::executor::DockerExecutor;
use super::{engine, images};
use crate::executor::Failure;

/// How long an engine may add up the size of its images. A large one looks at every layer and container.
const SIZE_LIMIT: Duration = Duration::from_secs(60);
/// How long each of the steps of a prune may take. Removing a few hundred gigabytes of small files takes minutes.
const PRUNE_STEP_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What a prune may remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneScope {
    /// Images that carry the label of workers, and the build cache: an engine does not tell whose a piece of cache is, and any of it
    /// can be made again.
    Own,
    /// What `docker system prune -af` removes, whoever made it.
    #[default]
    All,
}

/// `--prune-scope` takes neither `own` nor `all`.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("`{0}` does not say what may be pruned: use `own` or `all`")]
pub struct PruneScopeError(String);

impl FromStr for PruneScope {
    type Err = PruneScopeError;

    fn from_str(text: &str) -> Result<Self, PruneScopeError> {
        match text {
            "own" => Ok(Self::Own),
            "all" => Ok(Self::All),
            other => Err(PruneScopeError(other.to_owned())),
        }
    }
}

impl fmt::Display for PruneScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own",
            Self::All => "all",
        })
    }
}

/// What a prune has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes, as far as the engine tells.
    pub bytes: u64,
}

impl DockerExecutor {
    /// The directory below which the engine keeps its data, on the engine's own machine.
    ///
    /// # Errors
    /// If the engine is away, or does not tell.
    pub async fn root_dir(&self) -> Result<PathBuf, Failure> {
        let config = self.config();
        let info = engine::connect(config)?.info().await;
        let info = info.map_err(|error| engine::away(&config.engine, &error))?;
        match info.docker_root_dir {
            Some(dir) if !dir.is_empty() => Ok(dir.into()),
            _ => Err(Failure::engine(format!(
                "the Docker engine at {} does not tell where its data is",
                config.engine
            ))),
        }
    }

    /// How many bytes the engine's images take; layers which they share count once.
    ///
    /// # Errors
    /// If the engine is away, has not added it up within a minute, or does not tell.
    pub async fn images_size(&self) -> Result<u64, Failure> {
        let address = &self.config().engine;
        let failed = |reason: &str| {
            Failure::engine(format!(
                "cannot learn from the Docker engine at {address} how large its images are: {reason}"
            ))
        };
        let docker = engine::connect(self.config())?.with_timeout(SIZE_LIMIT);
        let usage = match timeout(SIZE_LIMIT, disk_usage(docker)).await {
            Ok(usage) => usage.map_err(|error| failed(&engine::reason(&error)))?,
            Err(_) => return Err(failed("it does not answer in time")),
        };
        images_size(&usage).map_err(failed)
    }

    /// Removes what nobody uses: of ours, images and build cache; of everybody, also stopped containers and networks, as
    /// `docker system prune -af` does. What a running build or a container uses stays. Each step has half an hour; a step that fails
    /// does not keep the others from being tried.
    ///
    /// Dropping the future gives up; the engine then stops where it is.
    ///
    /// # Errors
    /// The first failure, if there was any.
    pub async fn prune(&self, scope: PruneScope) -> Result<Pruned, Failure> {
        let docker = engine::connect(self.config())?.with_timeout(PRUNE_STEP_LIMIT);
        let mut steps = Vec::new();
        if scope == PruneScope::All {
            steps.extend(self.prune_containers_and_networks(&docker).await);
        }
        let images = PruneImagesOptionsBuilder::new()
            .filters(&image_filters(scope))
            .build();
        let cache = PruneBuildOptionsBuilder::new().all(true).build();
        steps.extend([
            self.step("images", async {
                let done = docker.prune_images(Some(images));
                done.await.map(|done| done.space_reclaimed)
            })
            .await,
            self.step("build cache", async {
                let done = docker.prune_build(Some(cache));
                done.await.map(|done| done.space_reclaimed)
            })
            .await,
        ]);
        let mut pruned = Pruned::default();
        for step in steps {
            pruned.bytes = pruned.bytes.saturating_add(step?);
        }
        Ok(pruned)
    }

    async fn prune_containers_and_networks(&self, docker: &Docker) -> [Result<u64, Failure>; 2] {
        [
            self.step("containers", async {
                let done = docker.prune_containers(None::<PruneContainersOptions>);
                done.await.map(|done| done.space_reclaimed)
            })
            .await,
            self.step("networks", async {
                let done = docker.prune_networks(None::<PruneNetworksOptions>);
                done.await.map(|_| None)
            })
            .await,
        ]
    }

    async fn step(
        &self,
        what: &str,
        step: impl Future<Output = Result<Option<i64>, Error>>,
    ) -> Result<u64, Failure> {
        let reason = match timeout(PRUNE_STEP_LIMIT, step).await {
            Ok(Ok(bytes)) => return Ok(bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or(0)),
            Ok(Err(Error::DockerResponseServerError { message, .. })) => message,
            Ok(Err(error)) => engine::reason(&error),
            Err(_) => "it does not answer in time".to_owned(),
        };
        Err(Failure::engine(format!(
            "cannot prune the {what} of the Docker engine at {}: {reason}",
            self.config().engine
        )))
    }
}

/// All unused images, not only those without a name; of ours, those that say so.
fn image_filters(scope: PruneScope) -> HashMap<&'static str, Vec<String>> {
    let mut filters = HashMap::from([("dangling", vec!["false".to_owned()])]);
    if scope == PruneScope::Own {
        filters.insert("label", vec![images::built_by_filter()]);
    }
    filters
}

/// What `GET /system/df` says of images, before API version 1.52 and since.
#[derive(Deserialize)]
struct DiskUsage {
    #[serde(rename = "LayersSize")]
    layers_size: Option<i64>,
    #[serde(rename = "ImageUsage")]
    image_usage: Option<ImageUsage>,
}

#[derive(Deserialize)]
struct ImageUsage {
    #[serde(rename = "TotalSize")]
    total_size: Option<i64>,
}

/// The engine's own words about its disk. The client library reads those of newer engines only, and so its way of fetching bytes
/// is sent here instead.
async fn disk_usage(docker: Docker) -> Result<Vec<u8>, Error> {
    let docker = docker.with_request_modifier(|mut request| {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = "/system/df".parse().ok();
        if let Ok(uri) = parts.try_into() {
            *request.uri_mut() = uri;
        }
        request
    });
    let mut answer = std::pin::pin!(docker.export_image("any"));
    let mut usage = Vec::new();
    while let Some(bytes) = answer.try_next().await? {
        usage.extend_from_slice(&bytes);
    }
    Ok(usage)
}

fn images_size(usage: &[u8]) -> Result<u64, &'static str> {
    let usage: DiskUsage =
        serde_json::from_slice(usage).map_err(|_| "its answer cannot be understood")?;
    usage
        .image_usage
        .and_then(|images| images.total_size)
        .or(usage.layers_size)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("its answer does not tell")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d11_sizes_are_read_as_numbers_whatever_their_magnitude() {
        let old = br#"{"LayersSize":2748779069440,"Images":[{"Id":"x"}],"BuilderSize":5}"#;
        assert_eq!(images_size(old), Ok(2_748_779_069_440));
        let new = br#"{"ImageUsage":{"ActiveCount":1,"TotalSize":3000000000000000},"BuildCacheUsage":{}}"#;
        assert_eq!(images_size(new), Ok(3_000_000_000_000_000));
        assert_eq!(images_size(br#"{"LayersSize":0}"#), Ok(0));
    }

    #[test]
    fn what_may_be_pruned_has_names() {
        for scope in [PruneScope::Own, PruneScope::All] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!(
            "mine".parse::<PruneScope>().unwrap_err().to_string(),
            "`mine` does not say what may be pruned: use `own` or `all`"
        );
    }

    #[test]
    fn an_answer_that_does_not_tell_is_no_size() {
        for odd in ["{}", r#"{"LayersSize":-1}"#, r#"{"ImageUsage":{}}"#] {
            assert_eq!(
                images_size(odd.as_bytes()),
                Err("its answer does not tell"),
                "{odd}"
            );
        }
        assert!(images_size(b"2.7TB").is_err());
    }
}
