//! Images out of a Docker engine, for hosts whose images live only there.
//!
//! The engine saves the image into a file without a name, and that is read as any `docker save` archive: nothing the engine says is believed
//! without its digest. No container is made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, pin_mut};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{
    Blob, DockerArchive, FetchError, ImageManifest, ImageSource, LayerDescriptor, Reference,
};
use crate::StepLog;
use crate::store::StoreError;

/// How long an engine may be silent while it pulls or saves.
const SILENCE: Duration = Duration::from_secs(600);
/// For its short answers, in seconds.
const ANSWER: u64 = 120;
/// The most bytes of a saved image.
const LARGEST: u64 = 64 << 30;

/// A Docker engine. Clones share its connections.
#[derive(Clone)]
pub struct DockerEngine(Docker);

/// One of its images. An image that it has not is pulled by it, without a login.
#[derive(Debug)]
pub struct DockerSource {
    engine: DockerEngine,
    name: String,
    scratch: PathBuf,
    saved: OnceCell<Saved>,
}

#[derive(Debug)]
struct Saved {
    archive: DockerArchive,
    id: Option<String>,
}

impl DockerEngine {
    /// The engine behind a socket. It is not asked anything yet.
    ///
    /// # Errors
    /// The path cannot be a socket's.
    pub fn unix(socket: &Path) -> Result<Self, FetchError> {
        Self::connected(Docker::connect_with_unix(
            &socket.to_string_lossy(),
            ANSWER,
            bollard::API_DEFAULT_VERSION,
        ))
    }

    /// The engine at `tcp://HOST:PORT`, which is spoken to without TLS.
    ///
    /// # Errors
    /// That is no address.
    pub fn http(address: &str) -> Result<Self, FetchError> {
        Self::connected(Docker::connect_with_http(
            address,
            ANSWER,
            bollard::API_DEFAULT_VERSION,
        ))
    }

    fn connected(docker: Result<Docker, Error>) -> Result<Self, FetchError> {
        docker.map(Self).map_err(|error| failed(&error))
    }

    /// The image of this name; `scratch` is an existing directory for files without names.
    #[must_use]
    pub fn image(&self, reference: &Reference, scratch: PathBuf) -> DockerSource {
        DockerSource {
            engine: self.clone(),
            name: reference.to_string(),
            scratch,
            saved: OnceCell::new(),
        }
    }
}

impl DockerSource {
    /// The image's id in the engine, `sha256:...`, if the engine has it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn id(&self, cancel: &CancellationToken) -> Result<Option<String>, FetchError> {
        cancelled(cancel, self.inspect()).await
    }

    async fn inspect(&self) -> Result<Option<String>, FetchError> {
        match self.engine.0.inspect_image(&self.name).await {
            Ok(image) => Ok(image.id),
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn saved(&self) -> Result<&Saved, FetchError> {
        self.saved.get_or_try_init(|| self.save()).await
    }

    async fn save(&self) -> Result<Saved, FetchError> {
        let mut id = self.inspect().await?;
        if id.is_none() {
            self.pull().await?;
            id = self.inspect().await?;
        }
        let disk = |source| {
            FetchError::Store(StoreError::Io {
                action: "write a temporary file in",
                path: self.scratch.clone(),
                source,
            })
        };
        let file = tempfile::tempfile_in(&self.scratch).map_err(disk)?;
        let mut out = tokio::fs::File::from_std(file);
        let saving = self.engine.0.export_image(&self.name);
        pin_mut!(saving);
        let mut size = 0;
        while let Some(piece) = next(&mut saving).await? {
            size += piece.len() as u64;
            if size > LARGEST {
                return Err(FetchError::Request(format!(
                    "the image \"{}\" has more than {LARGEST} bytes",
                    self.name
                )));
            }
            out.write_all(&piece).await.map_err(disk)?;
        }
        out.flush().await.map_err(disk)?;
        let file = out.into_std().await;
        Ok(Saved {
            archive: DockerArchive::open(file, self.scratch.clone()),
            id,
        })
    }

    async fn pull(&self) -> Result<(), FetchError> {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        let mut options = CreateImageOptionsBuilder::default().from_image(&self.name);
        if !last.contains([':', '@']) {
            // Without one, the engine pulls all there are.
            options = options.tag("latest");
        }
        let pulling = self
            .engine
            .0
            .create_image(Some(options.build()), None, None);
        pin_mut!(pulling);
        while next(&mut pulling).await?.is_some() {}
        Ok(())
    }
}

impl ImageSource for DockerSource {
    fn origin(&self) -> &str {
        "a Docker engine"
    }

    fn manifest<'a>(
        &'a self,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>> {
        Box::pin(async move {
            let saved = cancelled(cancel, self.saved()).await?;
            let manifest = saved.archive.manifest(cancel).await?;
            Ok(ImageManifest {
                // Engines of different kinds count differently, and `id` must agree with this.
                digest: saved.id.clone().or(manifest.digest),
                ..manifest
            })
        })
    }

    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>> {
        Box::pin(async move {
            let saved = cancelled(cancel, self.saved()).await?;
            saved.archive.blob(layer, log, cancel).await
        })
    }
}

async fn next<T>(
    stream: &mut (impl Stream<Item = Result<T, Error>> + Unpin),
) -> Result<Option<T>, FetchError> {
    match tokio::time::timeout(SILENCE, stream.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(item))) => Ok(Some(item)),
        Ok(Some(Err(error))) => Err(failed(&error)),
        Err(_) => Err(FetchError::Source(format!(
            "the Docker engine has said nothing for {} s",
            SILENCE.as_secs()
        ))),
    }
}

async fn cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    cancel
        .run_until_cancelled(work)
        .await
        .unwrap_or(Err(FetchError::Cancelled))
}

fn failed(error: &Error) -> FetchError {
    match error {
        Error::DockerResponseServerError {
            status_code: 404,
            message,
        } => FetchError::Request(format!("the Docker engine has no such image: {message}")),
        Error::DockerResponseServerError { message, .. } => {
            FetchError::Source(format!("the Docker engine refuses: {message}"))
        }
        other => FetchError::Source(format!("the Docker engine does not answer: {other}")),
    }
}

impl fmt::Debug for DockerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DockerEngine")
    }
}
