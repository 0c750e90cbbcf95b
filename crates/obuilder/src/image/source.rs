//! What images are made of, whoever has them: a registry, an archive, a directory.

use bstr::BString;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::FetchError;
use crate::StepLog;

/// Somebody who has one image.
pub trait ImageSource: Send + Sync {
    /// Where its bytes come from. Sources that name the same place are as fast as each other, and give the same bytes for a digest.
    fn origin(&self) -> &str;

    /// What the image is made of.
    fn manifest<'a>(
        &'a self,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>>;

    /// A layer's bytes, as they are (compressed or not). Several may be asked for at once; the caller bounds how many. Progress goes
    /// to `log`.
    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>>;
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The manifest's own digest, `sha256:...`, if there is a manifest.
    pub digest: Option<String>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerDescriptor>,
    /// Its environment, in order.
    pub env: Vec<(BString, BString)>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// The SHA-256 of its bytes as they are.
    pub digest: [u8; 32],
    /// How many there are, if it is known.
    pub size: Option<u64>,
    /// The SHA-256 of the tar within, if it is known before.
    pub diff_id: Option<[u8; 32]>,
}

/// A layer's bytes on the disk.
#[derive(Debug)]
pub struct Blob {
    /// A file, to be read from its start.
    pub file: std::fs::File,
    /// Where in the file the bytes start, and how many there are.
    pub range: std::ops::Range<u64>,
    /// Whether the digest was compared already. If not, who reads it has to.
    pub verified: bool,
}
