//! A tar of a root filesystem as an image of one layer: `rootfs:FILE.tar`, compressed with gzip or zstd, or not.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{LocalImages, blocking, check};
use crate::StepLog;
use crate::image::unpack::hex;
use crate::image::{Blob, FetchError, ImageManifest, ImageSource, LayerDescriptor};

/// A tar of a root filesystem. The image's digest is that of the file.
#[derive(Clone, Debug)]
pub struct RootfsTar(Arc<(PathBuf, LocalImages)>);

impl RootfsTar {
    /// The image in `file`.
    #[must_use]
    pub fn new(file: PathBuf, images: LocalImages) -> Self {
        Self(Arc::new((file, images)))
    }
}

impl ImageSource for RootfsTar {
    fn origin(&self) -> &str {
        "files"
    }

    fn manifest<'a>(
        &'a self,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>> {
        let (inner, cancel) = (Arc::clone(&self.0), cancel.clone());
        Box::pin(blocking(move || {
            let (path, images) = &*inner;
            let mut file = images.file(path)?;
            let (mut hash, mut size) = (Sha256::new(), 0);
            let mut piece = vec![0; 256 * 1024];
            loop {
                check(&cancel)?;
                let got = file.read(&mut piece).map_err(|error| {
                    FetchError::Source(format!("cannot read \"{}\": {error}", path.display()))
                })?;
                if got == 0 {
                    break;
                }
                hash.update(piece.get(..got).unwrap_or_default());
                size += got as u64;
            }
            let digest: [u8; 32] = hash.finalize().into();
            Ok(ImageManifest {
                digest: Some(format!("sha256:{}", hex(&digest))),
                layers: vec![LayerDescriptor {
                    digest,
                    size: Some(size),
                    diff_id: None,
                }],
                env: Vec::new(),
            })
        }))
    }

    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        _log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>> {
        let inner = Arc::clone(&self.0);
        let size = layer.size.unwrap_or_default();
        Box::pin(async move {
            check(cancel)?;
            blocking(move || {
                let file = inner.1.file(&inner.0)?;
                Ok(Blob {
                    file,
                    range: 0..size,
                    // It may have changed since.
                    verified: false,
                })
            })
            .await
        })
    }
}
