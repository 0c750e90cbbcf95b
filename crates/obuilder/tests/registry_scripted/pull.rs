//! Somebody who pulls, with directories of their own, limits for tests, and a log that can be read.

use std::path::PathBuf;
use std::time::Duration;

use ocluster_obuilder::StepLog;
use ocluster_obuilder::image::registry::Digest;
use ocluster_obuilder::image::{
    FetchError, ImageManifest, ImageSource as _, LayerDescriptor, Registries, RegistryConfig,
    RegistrySource,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A registry's user.
pub(crate) struct Puller {
    pub(crate) dir: TempDir,
    pub(crate) config: RegistryConfig,
    pub(crate) log: StepLog,
    pub(crate) cancel: CancellationToken,
}

impl Puller {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = RegistryConfig::new(dir.path().join("blobs"));
        // Short waits between attempts; long ones for what a loaded machine may need.
        config.limits.retry_delay = Duration::from_millis(5);
        config.limits.stall = Duration::from_secs(20);
        config.limits.answer = Duration::from_secs(20);
        let log = StepLog::create(&dir.path().join("log")).await;
        Self {
            log: log.expect("a log"),
            dir,
            config,
            cancel: CancellationToken::new(),
        }
    }

    /// The same with a stall noticed soon.
    pub(crate) async fn impatient() -> Self {
        let mut puller = Self::new().await;
        puller.config.limits.stall = Duration::from_millis(400);
        puller
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.config.blobs.clone()
    }

    /// Writes Docker's configuration file.
    pub(crate) fn logins(&mut self, json: &str) {
        let file = self.dir.path().join("config.json");
        std::fs::write(&file, json).expect("a file");
        self.config.docker_config = Some(file);
    }

    pub(crate) async fn registries(&self) -> Registries {
        Registries::open(self.config.clone())
            .await
            .expect("a configuration")
    }

    pub(crate) async fn source(&self, name: &str) -> RegistrySource {
        let name = name.parse().expect("a name");
        self.registries().await.image(&name).telling(&self.log)
    }

    pub(crate) async fn manifest(&self, name: &str) -> Result<ImageManifest, FetchError> {
        self.source(name).await.manifest(&self.cancel).await
    }

    /// The manifest's failure, in words.
    pub(crate) async fn failure(&self, name: &str) -> String {
        self.manifest(name)
            .await
            .expect_err("a failure")
            .to_string()
    }

    pub(crate) async fn blob(
        &self,
        source: &RegistrySource,
        digest: Digest,
        size: usize,
    ) -> Result<Vec<u8>, FetchError> {
        let layer = LayerDescriptor {
            digest: digest.bytes(),
            size: Some(size as u64),
            diff_id: None,
        };
        let blob = source.blob(&layer, &self.log, &self.cancel).await?;
        assert!(blob.verified);
        Ok(read(blob))
    }

    /// Everything: the manifest and all layers.
    pub(crate) async fn pull(&self, name: &str) -> Result<Vec<Vec<u8>>, FetchError> {
        let source = self.source(name).await;
        let manifest = source.manifest(&self.cancel).await?;
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            layers.push(read(source.blob(layer, &self.log, &self.cancel).await?));
        }
        Ok(layers)
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// The names of files left in the directory of layers.
    pub(crate) fn left(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.blobs()).expect("a directory");
        listed
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect()
    }
}

pub(crate) fn read(blob: ocluster_obuilder::image::Blob) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let length = usize::try_from(blob.range.end - blob.range.start).expect("a length");
    let mut bytes = vec![0; length];
    let read = blob.file.read_exact_at(&mut bytes, blob.range.start);
    read.expect("the blob");
    bytes
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not happen"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
