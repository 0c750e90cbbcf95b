//! Images in registries: what is asked when, and of whom.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::documents::{self, Descriptor, Document, MANIFESTS, MAX_CONFIG, MAX_MANIFEST};
use super::download::Job;
use super::downloads::Downloads;
use super::endpoint::Endpoint;
use super::patience::Patience;
use super::progress::tell;
use super::transport::{Question, Transport};
use super::trouble::Trouble;
use super::{Digest, RegistryConfig, partial};
use crate::StepLog;
use crate::image::{Blob, FetchError, ImageManifest, ImageSource, LayerDescriptor, Reference};

/// How a registry says what it sends.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// All registries, as one configuration reaches them. Clones share connections, tokens and downloads.
#[derive(Clone, Debug)]
pub struct Registries {
    transport: Arc<Transport>,
    downloads: Arc<Downloads>,
}

/// One image in a registry, for one pull: logins are read for it anew, and mirrors that fail are not asked again.
#[derive(Debug)]
pub struct RegistrySource {
    registries: Registries,
    reference: Reference,
    name: String,
    endpoints: Arc<Vec<Endpoint>>,
    log: Option<StepLog>,
}

/// A small document, as it came.
struct Fetched {
    bytes: Vec<u8>,
    digest: Digest,
    content_type: String,
}

impl Registries {
    /// Gets ready; asks nobody yet. Layers that nobody fetched to their end for a week are removed, or what is too much of them.
    ///
    /// # Errors
    /// Certificates that cannot be used, or the disk's.
    pub async fn open(config: RegistryConfig) -> Result<Self, FetchError> {
        let opening = spawn_blocking(move || {
            let dir: PathBuf = config.blobs.clone();
            let most = config.limits.partials;
            // Nobody downloads yet.
            partial::tidy(&dir, most, |_, _, take| take())
                .map_err(|trouble| trouble.about("images"))?;
            let downloads = Downloads::new(config.limits.downloads);
            Ok(Self {
                transport: Arc::new(Transport::new(config)?),
                downloads: Arc::new(downloads),
            })
        });
        opening.await.unwrap_or(Err(FetchError::Cancelled))
    }

    /// The image of this name.
    #[must_use]
    pub fn image(&self, reference: &Reference) -> RegistrySource {
        RegistrySource {
            registries: self.clone(),
            reference: reference.clone(),
            name: reference.to_string(),
            endpoints: Arc::new(Endpoint::all(&self.transport.config, reference)),
            log: None,
        }
    }
}

impl RegistrySource {
    /// The same, which tells in `log` what happens on the way to the manifest, too.
    #[must_use]
    pub fn telling(mut self, log: &StepLog) -> Self {
        self.log = Some(log.clone());
        self
    }

    /// The image's name.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What the name stands for now: the digest of what it names, which for an image of several platforms is their list. The same digest
    /// is in the [`ImageManifest`]. Nobody is asked about a name with a digest.
    ///
    /// # Errors
    /// There is no such image, or no registry that says so.
    pub async fn resolve(&self, cancel: &CancellationToken) -> Result<Digest, FetchError> {
        if let Some(digest) = self.reference.digest() {
            return Ok(digest);
        }
        self.anywhere(cancel, |endpoint| self.resolve_at(endpoint).boxed())
            .await
    }

    /// Asks one after the other.
    async fn anywhere<'a, T>(
        &'a self,
        cancel: &CancellationToken,
        ask: impl Fn(&'a Endpoint) -> BoxFuture<'a, Result<T, Trouble>>,
    ) -> Result<T, FetchError> {
        let asking = cancel.run_until_cancelled(async {
            let mut before = Vec::new();
            for endpoint in self.endpoints.iter() {
                if endpoint.is_mirror && endpoint.has_failed() {
                    continue;
                }
                let trouble = match ask(endpoint).await {
                    Ok(answer) => return Ok(answer),
                    Err(trouble) => trouble,
                };
                if !endpoint.is_mirror || !trouble.is_the_registrys() {
                    return Err(trouble.after(&before));
                }
                endpoint.set_failed();
                let why = trouble.why();
                warn!(image = %self.name, "passing over {}: {why}", endpoint.name);
                self.note(&format!("passing over {}: {why}", endpoint.name))
                    .await;
                before.push(why);
            }
            Err(Trouble::Request("nobody is asked for it".to_owned()))
        });
        let answer = asking.await.unwrap_or(Err(Trouble::Cancelled));
        answer.map_err(|trouble| trouble.about(&self.name))
    }

    async fn note(&self, line: &str) {
        if let Some(log) = &self.log {
            tell(log, line).await;
        }
    }

    async fn resolve_at(&self, endpoint: &Endpoint) -> Result<Digest, Trouble> {
        let name = self.reference.tag_or_digest();
        let question = Question {
            endpoint,
            method: &Method::HEAD,
            what: ("manifests", &name),
            accept: MANIFESTS,
            from: 0,
        };
        let head = self
            .patiently(endpoint, || {
                self.registries.transport.ask(&question).boxed()
            })
            .await;
        let digest = match head {
            Ok(response) => response.headers().get(CONTENT_DIGEST).cloned(),
            // Some do not know the method.
            Err(Trouble::Source(_)) => None,
            Err(trouble) => return Err(trouble),
        };
        let digest = digest.and_then(|digest| digest.to_str().ok()?.parse().ok());
        match digest {
            Some(digest) => Ok(digest),
            None => Ok(self.named(endpoint).await?.digest),
        }
    }

    async fn manifest_at(&self, endpoint: &Endpoint) -> Result<ImageManifest, Trouble> {
        let refused = |why: String| {
            Trouble::Source(format!(
                "the manifest at {} is refused: {why}",
                endpoint.name
            ))
        };
        let unusable = |why: String| Trouble::Request(why);
        let platform = &self.registries.transport.config.platform;
        let top = self.named(endpoint).await?;
        let document = documents::document(&top.bytes, &top.content_type).map_err(refused)?;
        let document = match document {
            Document::List(list) => {
                let chosen = documents::choose(&list, platform).map_err(unusable)?;
                let fetched = self
                    .described(endpoint, "manifests", chosen, MAX_MANIFEST)
                    .await?;
                documents::document(&fetched.bytes, &fetched.content_type).map_err(refused)?
            }
            image @ Document::Image { .. } => image,
        };
        let Document::Image { config, layers } = document else {
            return Err(refused("it is a list within a list".to_owned()));
        };
        documents::check_config(&config).map_err(unusable)?;
        let fetched = self
            .described(endpoint, "blobs", &config, MAX_CONFIG)
            .await?;
        let refused = |why: String| {
            Trouble::Source(format!(
                "the configuration at {} is refused: {why}",
                endpoint.name
            ))
        };
        let config = documents::config(&fetched.bytes).map_err(refused)?;
        if let Some(other) = &config.platform
            && platform.suits(other).is_none()
        {
            // It says so itself, and may be right nevertheless: Docker takes it, too.
            self.note(&format!(
                "the image {} says that it is not for {platform}",
                self.name
            ))
            .await;
        }
        let largest = self.registries.transport.config.limits.largest_layer;
        Ok(ImageManifest {
            digest: Some(top.digest.to_string()),
            layers: documents::layers(&layers, &config.diff_ids, largest).map_err(unusable)?,
            env: config.env,
        })
    }

    /// The manifest or list that the image's name stands for.
    async fn named(&self, endpoint: &Endpoint) -> Result<Fetched, Trouble> {
        let name = self.reference.tag_or_digest();
        let expected = self.reference.digest();
        self.small(endpoint, ("manifests", &name), MAX_MANIFEST, expected)
            .await
    }

    /// What a descriptor describes.
    async fn described(
        &self,
        endpoint: &Endpoint,
        kind: &str,
        descriptor: &Descriptor,
        most: u64,
    ) -> Result<Fetched, Trouble> {
        let source = |why: String| Trouble::Source(format!("{}: {why}", endpoint.name));
        let digest = descriptor.digest().map_err(source)?;
        if descriptor.size > most {
            return Err(source(format!(
                "it has a document of {} bytes, more than the {most} that are allowed",
                descriptor.size
            )));
        }
        let name = digest.to_string();
        self.small(endpoint, (kind, &name), descriptor.size, Some(digest))
            .await
    }

    /// A document of at most `most` bytes, compared with its digest.
    async fn small(
        &self,
        endpoint: &Endpoint,
        what: (&str, &str),
        most: u64,
        expected: Option<Digest>,
    ) -> Result<Fetched, Trouble> {
        let question = Question {
            endpoint,
            method: &Method::GET,
            what,
            accept: if what.0 == "manifests" {
                MANIFESTS
            } else {
                "*/*"
            },
            from: 0,
        };
        self.patiently(endpoint, || {
            self.small_once(question, most, expected).boxed()
        })
        .await
    }

    async fn small_once(
        &self,
        question: Question<'_>,
        most: u64,
        expected: Option<Digest>,
    ) -> Result<Fetched, Trouble> {
        let transport = &self.registries.transport;
        let name = &question.endpoint.name;
        let response = transport.ask(&question).await?;
        let header = |name: &str| {
            let value = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(ToOwned::to_owned)
        };
        let content_type = header(CONTENT_TYPE.as_str()).unwrap_or_default();
        if documents::is_schema_1(&content_type) {
            return Err(Trouble::Request(format!(
                "the manifest at {name} is refused: {}",
                documents::SCHEMA_1
            )));
        }
        let promised = header(CONTENT_DIGEST).and_then(|text| text.parse().ok());
        let bytes = transport.body(response, most, name).await?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected.or(promised)
            && expected != digest
        {
            return Err(Trouble::Source(format!(
                "{name} sent something with the digest {digest} as {expected}"
            )));
        }
        Ok(Fetched {
            bytes,
            digest,
            content_type,
        })
    }

    /// Asks until there is an answer, or no patience left.
    async fn patiently<'a, T>(
        &'a self,
        endpoint: &'a Endpoint,
        ask: impl Fn() -> BoxFuture<'a, Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let limits = &self.registries.transport.config.limits;
        let mut patience = Patience::with(endpoint, limits);
        loop {
            let trouble = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let Some(wait) = patience.after(&trouble) else {
                return Err(trouble);
            };
            if wait > limits.retry_delay * 4 {
                let why = trouble.why();
                self.note(&format!("{why}; waiting {} s", wait.as_secs()))
                    .await;
            }
            sleep(wait).await;
        }
    }
}

impl ImageSource for RegistrySource {
    fn origin(&self) -> &str {
        self.reference.host()
    }

    fn manifest<'a>(
        &'a self,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>> {
        self.anywhere(cancel, |endpoint| self.manifest_at(endpoint).boxed())
            .boxed()
    }

    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>> {
        let job = Job {
            transport: Arc::clone(&self.registries.transport),
            endpoints: Arc::clone(&self.endpoints),
            digest: layer.digest.into(),
            size: layer.size,
            origin: self.reference.host().to_owned(),
            place: 0,
        };
        async move {
            let fetching = self.registries.downloads.fetch(&job, log);
            let fetched = cancel.run_until_cancelled(fetching).await;
            let file = fetched.unwrap_or(Err(Trouble::Cancelled)).and_then(|file| {
                let length = file.metadata().map(|metadata| metadata.len());
                let length = length.map_err(|error| Trouble::disk("read", &job.whole(), &error))?;
                Ok((file, length))
            });
            let layer = format!("layer {}", job.digest);
            let (file, length) = file.map_err(|trouble| trouble.of(&layer).about(&self.name))?;
            Ok(Blob {
                file,
                range: 0..length,
                verified: true,
            })
        }
        .boxed()
    }
}
