//! What comes from a real registry is what was put into it.

use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;
use ocluster_obuilder::StepLog;
use ocluster_obuilder::image::registry::Digest;
use ocluster_obuilder::image::{
    Blob, FetchError, ImageManifest, ImageSource as _, Registries, RegistryConfig, RegistrySource,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::layout::{self, tar};
use crate::registry::Registry;

/// Somebody who pulls.
pub(crate) struct Puller {
    pub(crate) dir: TempDir,
    pub(crate) config: RegistryConfig,
    pub(crate) log: StepLog,
    pub(crate) cancel: CancellationToken,
}

impl Puller {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = StepLog::create(&dir.path().join("log")).await;
        Self {
            config: RegistryConfig::new(dir.path().join("blobs")),
            log: log.expect("a log"),
            dir,
            cancel: CancellationToken::new(),
        }
    }

    pub(crate) async fn source(&self, name: &str) -> RegistrySource {
        let registries = Registries::open(self.config.clone()).await;
        let name = name.parse().expect("a name");
        registries.expect("a configuration").image(&name)
    }

    async fn pull(&self, name: &str) -> Result<(ImageManifest, Vec<Vec<u8>>), FetchError> {
        let source = self.source(name).await;
        let manifest = source.manifest(&self.cancel).await?;
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            layers.push(bytes(source.blob(layer, &self.log, &self.cancel).await?));
        }
        Ok((manifest, layers))
    }
}

fn bytes(mut blob: Blob) -> Vec<u8> {
    let mut bytes = Vec::new();
    blob.file.read_to_end(&mut bytes).expect("the blob");
    assert_eq!(blob.range, 0..bytes.len() as u64);
    bytes
}

fn tars() -> Vec<Vec<u8>> {
    let large: Vec<u8> = (0..200_000u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    vec![tar("large", &large), tar("small", b"hello")]
}

/// Pushes an image as `more` tells skopeo to, pulls it, and unpacks its layers with `unpack`.
async fn there_and_back(more: &[&str], unpack: impl Fn(&[u8]) -> Vec<u8>) -> (Registry, String) {
    let tars = tars();
    let registry = Registry::start();
    let puller = Puller::new().await;
    let layout = puller.dir.path().join("layout");
    layout::write(&layout, &tars);
    registry.push(&layout, "team/app:v1", more);

    let name = registry.name("team/app:v1");
    let (manifest, layers) = puller.pull(&name).await.expect("an image");
    let raw = registry.manifest("team/app:v1");
    assert_eq!(manifest.digest, Some(Digest::of(&raw).to_string()));
    let resolved = puller.source(&name).await.resolve(&puller.cancel).await;
    assert_eq!(resolved.expect("a digest"), Digest::of(&raw));
    let raw = String::from_utf8(raw).expect("text");
    for ((layer, bytes), tar) in manifest.layers.iter().zip(&layers).zip(&tars) {
        assert!(raw.contains(&Digest::from(layer.digest).to_string()));
        assert_eq!(Digest::of(bytes).bytes(), layer.digest);
        assert_eq!(layer.size, Some(bytes.len() as u64));
        assert_eq!(layer.diff_id, Some(Digest::of(tar).bytes()));
        assert!(unpack(bytes) == *tar, "another tar than was pushed");
    }
    assert_eq!(layers.len(), tars.len());
    assert_eq!(
        manifest.env,
        [("PATH", "/bin:/usr/bin"), ("GREETING", "a=b c")].map(|(n, v)| (n.into(), v.into()))
    );
    (registry, raw)
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).expect("gzip");
    tar
}

#[tokio::test]
async fn an_oci_image_comes_as_it_was_pushed() {
    let (_registry, raw) = there_and_back(&[], gunzip).await;
    assert!(
        raw.contains("application/vnd.oci.image.manifest.v1+json"),
        "{raw}"
    );
}

#[tokio::test]
async fn a_docker_image_comes_as_it_was_pushed() {
    let (_registry, raw) = there_and_back(&["--format=v2s2"], gunzip).await;
    assert!(
        raw.contains("application/vnd.docker.distribution.manifest.v2+json"),
        "{raw}"
    );
}

#[tokio::test]
async fn layers_compressed_with_zstd_come_as_they_were_pushed() {
    let unzstd = |bytes: &[u8]| zstd::decode_all(bytes).expect("zstd");
    let (_registry, raw) = there_and_back(&["--dest-compress-format=zstd"], unzstd).await;
    assert!(raw.contains("tar+zstd"), "{raw}");
}

#[tokio::test]
async fn docker_schema_1_is_refused() {
    let registry = Registry::start();
    let puller = Puller::new().await;
    let layout = puller.dir.path().join("layout");
    layout::write(&layout, &tars());
    registry.push(&layout, "old:v1", &["--format=v2s1"]);
    let error = puller
        .pull(&registry.name("old:v1"))
        .await
        .expect_err("schema 1");
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[tokio::test]
async fn a_registry_with_passwords_takes_those_in_dockers_file() {
    let registry = Registry::with_login("worker", "pass:word");
    let mut puller = Puller::new().await;
    let layout = puller.dir.path().join("layout");
    let tars = tars();
    layout::write(&layout, &tars);
    registry.push(&layout, "private:v1", &[]);
    let name = registry.name("private:v1");

    let error = puller.pull(&name).await.expect_err("no login").to_string();
    assert!(
        error.contains("wants a login, and there is none"),
        "{error}"
    );

    // base64 of worker:pass:word, and of worker:wrong.
    for (auth, is_right) in [
        ("d29ya2VyOnBhc3M6d29yZA==", true),
        ("d29ya2VyOndyb25n", false),
    ] {
        let file = puller.dir.path().join("config.json");
        let json = format!(
            r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{auth}"}}}}}}"#,
            registry.port
        );
        fs::write(&file, json).expect("a file");
        puller.config.docker_config = Some(file);
        let pulled = puller.pull(&name).await;
        assert_eq!(pulled.is_ok(), is_right, "{:?}", pulled.err());
        if let Err(error) = pulled {
            let error = error.to_string();
            assert!(error.contains("401") && !error.contains("wrong"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_real_registry_goes_on_in_the_middle() {
    let registry = Registry::start();
    let puller = Puller::new().await;
    let layout = puller.dir.path().join("layout");
    layout::write(&layout, &tars());
    registry.push(&layout, "app:v1", &[]);
    let source = puller.source(&registry.name("app:v1")).await;
    let manifest = source.manifest(&puller.cancel).await.expect("a manifest");
    let layer = &manifest.layers[0];
    let hex = Digest::from(layer.digest).hex();
    let whole = fs::read(layout.join("blobs/sha256").join(&hex)).expect("a layer");
    let half = whole.len() / 2;
    let partial = puller.config.blobs.join(format!("{hex}.partial"));
    fs::write(partial, &whole[..half]).expect("a file");
    let blob = source.blob(layer, &puller.log, &puller.cancel).await;
    assert!(bytes(blob.expect("a layer")) == whole);
    let told = fs::read_to_string(puller.dir.path().join("log")).expect("a log");
    assert!(!told.contains("starting again"), "{told}");
}

#[tokio::test]
async fn what_a_real_registry_does_not_have_is_said_to_be_missing() {
    let registry = Registry::start();
    let puller = Puller::new().await;
    let error = puller
        .pull(&registry.name("nothing:v1"))
        .await
        .expect_err("nothing");
    assert!(matches!(error, FetchError::Request(_)), "{error:?}");
    assert!(error.to_string().contains("answered 404"), "{error}");
}
