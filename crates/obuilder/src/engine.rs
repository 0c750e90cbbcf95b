//! All that builds need, put together: a store, a sandbox, and whoever fetches images.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bstr::BStr;
use tokio_util::sync::CancellationToken;

use crate::build::{BuildError, Builder, BuilderOptions};
use crate::image::registry::docker_config_file;
use crate::image::{
    DockerEngine, FetchError, ImageFetcher, LocalImages, Registries, RegistryConfig, Remote,
    registry::Mirrors,
};
use crate::sandbox::{RuncConfig, RuncSandbox, SandboxError, Seccomp};
use crate::store::{Location, Store, StoreError, StoreOptions};

/// How long the build of a health check may take, without the fetch of its image.
const HEALTHCHECK_LIMIT: Duration = Duration::from_secs(300);

/// How to put an engine together.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The store's kind and place.
    pub store: Location,
    /// How to open it.
    pub store_options: StoreOptions,
    /// The OCI runtime that runs steps: a name to look up in `PATH`, or a path.
    pub runtime: PathBuf,
    /// The control group below which steps get theirs; absolute in the hierarchy.
    pub cgroup_parent: PathBuf,
    /// Which system calls steps may make.
    pub seccomp: Seccomp,
    /// Whether steps' requests to flush files to the disk are taken for done.
    pub fast_sync: bool,
    /// Where base images come from.
    pub images: ImagesConfig,
    /// How builds go.
    pub build: BuilderOptions,
}

/// Where base images come from.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// Which local images may be used.
    pub local: LocalImages,
    /// Who has all others.
    pub remote: RemoteImages,
}

/// Who has images that are not local.
#[derive(Clone, Debug)]
pub enum RemoteImages {
    /// The registries that their names tell.
    Registries {
        /// Who is asked before them.
        mirrors: Vec<Mirrors>,
        /// Those that are spoken to without TLS: `HOST`, or `HOST:PORT`.
        plain_http: Vec<String>,
        /// Whether those on loopback addresses need not be named there. Without it no image's name reaches this machine's services.
        loopback: bool,
        /// Files of certificates (PEM) of authorities that are trusted besides the system's.
        ca_certificates: Vec<PathBuf>,
    },
    /// A Docker engine, which pulls what it has not.
    Docker(DockerEngine),
}

/// An open store with all that builds in it need. Clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    builder: Builder,
}

/// An engine cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store cannot be opened.
    #[error("cannot open the store {location}: {reason}")]
    Store {
        /// Which.
        location: Location,
        /// Why. It is not the error's source, since its sentence is there already.
        reason: StoreError,
    },
    /// Steps cannot be run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Images cannot be fetched.
    #[error(transparent)]
    Images(#[from] FetchError),
}

impl Engine {
    /// Opens the store, and sees to it that steps can be run.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn open(config: EngineConfig) -> Result<Self, EngineError> {
        let location = config.store;
        let of_store = |reason| EngineError::Store {
            location: location.clone(),
            reason,
        };
        let opened = Store::open(&location, config.store_options).await;
        let store = opened.map_err(of_store)?;
        let room = |name| store.state_dir(name).map_err(of_store);
        let sandbox = RuncSandbox::open(RuncConfig {
            runtime: config.runtime,
            state: room("sandbox")?,
            cgroup_parent: config.cgroup_parent,
            seccomp: config.seccomp,
            fast_sync: config.fast_sync,
        });
        let sandbox = Arc::new(sandbox.await?);
        sandbox.can_enforce(&config.build.limits)?;
        let remote = remote(config.images.remote, room("blobs")?).await?;
        let images = ImageFetcher::new(config.images.local, remote, room("scratch")?);
        let builder = Builder::new(store, sandbox, Arc::new(images), config.build);
        Ok(Self { builder })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.builder.store()
    }

    /// What builds.
    #[must_use]
    pub fn builder(&self) -> &Builder {
        &self.builder
    }

    /// As [`Builder::close`].
    ///
    /// # Errors
    /// The disk's.
    pub async fn close(self) -> Result<(), StoreError> {
        self.builder.close().await
    }

    /// Builds something small on the image `image`, to see whether building works.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn healthcheck(
        &self,
        image: &str,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        self.builder
            .healthcheck(BStr::new(image), HEALTHCHECK_LIMIT, cancel)
            .await
    }
}

async fn remote(images: RemoteImages, blobs: PathBuf) -> Result<Remote, FetchError> {
    Ok(match images {
        RemoteImages::Registries {
            mirrors,
            plain_http,
            loopback,
            ca_certificates,
        } => {
            let config = RegistryConfig {
                mirrors,
                plain_http,
                loopback,
                ca_certificates,
                docker_config: docker_config_file(),
                ..RegistryConfig::new(blobs)
            };
            Remote::Registries(Registries::open(config).await?)
        }
        RemoteImages::Docker(engine) => Remote::Docker(engine),
    })
}
