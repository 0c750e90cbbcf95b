//! Images in OCI layouts: `oci:DIR[:TAG]`.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::documents::{Config, Descriptor, Document, LARGEST, parse};
use super::{LocalImages, blocking, check};
use crate::StepLog;
use crate::image::unpack::hex;
use crate::image::{Blob, FetchError, ImageManifest, ImageSource, LayerDescriptor};

/// An index may list indexes; deeper than this no tool nests them.
const NESTED: usize = 4;

/// One image of an OCI layout.
#[derive(Clone, Debug)]
pub struct OciLayout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    tag: Option<String>,
    images: LocalImages,
}

impl OciLayout {
    /// The image `tag` in the layout `directory`; without a tag, the only one there.
    #[must_use]
    pub fn new(directory: PathBuf, tag: Option<String>, images: LocalImages) -> Self {
        Self(Arc::new(Inner {
            directory,
            tag,
            images,
        }))
    }
}

impl ImageSource for OciLayout {
    fn origin(&self) -> &str {
        "files"
    }

    fn manifest<'a>(
        &'a self,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            check(cancel)?;
            blocking(move || inner.manifest()).await
        })
    }

    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        _log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>> {
        let inner = Arc::clone(&self.0);
        let digest = layer.digest;
        Box::pin(async move {
            check(cancel)?;
            blocking(move || {
                let file = inner.open(&inner.layout()?, &digest)?;
                let length = file.metadata().map_err(|error| inner.unreadable(&error))?;
                Ok(Blob {
                    file,
                    range: 0..length.len(),
                    verified: false,
                })
            })
            .await
        })
    }
}

impl Inner {
    fn layout(&self) -> Result<OwnedFd, FetchError> {
        self.images.open(&self.directory, OFlags::DIRECTORY)
    }

    fn manifest(&self) -> Result<ImageManifest, FetchError> {
        let layout = self.layout()?;
        let index = self
            .images
            .file_in(&layout, "index.json")
            .map_err(|error| self.unreadable(&error))?;
        let mut index: Document = parse("index", &self.small(index)?)?;
        let mut tag = self.tag.as_deref();
        for _ in 0..NESTED {
            let listed = index.manifests.unwrap_or_default();
            let chosen = self.choose(&listed, tag.take())?;
            let document: Document = parse("manifest", &self.read(&layout, chosen)?)?;
            match (document.manifests, document.config, document.layers) {
                (Some(manifests), None, None) => {
                    index = Document {
                        manifests: Some(manifests),
                        config: None,
                        layers: None,
                    };
                }
                (None, Some(config), Some(layers)) => {
                    let config: Config = parse("configuration", &self.read(&layout, &config)?)?;
                    let diff_ids = config.diff_ids(layers.len())?;
                    let layers = layers.iter().zip(diff_ids);
                    return Ok(ImageManifest {
                        digest: Some(format!("sha256:{}", hex(&chosen.digest()?))),
                        layers: layers
                            .map(|(layer, diff_id)| layer.layer(diff_id))
                            .collect::<Result<_, _>>()?,
                        env: config.env(),
                    });
                }
                _ => {
                    return Err(FetchError::Request(format!(
                        "\"{}\" is neither an image nor a list of images",
                        self.directory.display()
                    )));
                }
            }
        }
        Err(FetchError::Request(format!(
            "the lists of images in \"{}\" are nested too deep",
            self.directory.display()
        )))
    }

    fn choose<'a>(
        &self,
        listed: &'a [Descriptor],
        tag: Option<&str>,
    ) -> Result<&'a Descriptor, FetchError> {
        let named: Vec<_> = listed
            .iter()
            .filter(|descriptor| tag.is_none() || descriptor.tag() == tag)
            .collect();
        let here: Vec<_> = named
            .iter()
            .copied()
            .filter(|descriptor| descriptor.suits())
            .collect();
        let directory = self.directory.display();
        match (named.as_slice(), here.as_slice(), tag) {
            (_, [only], _) => Ok(only),
            ([], _, Some(tag)) => Err(FetchError::Request(format!(
                "there is no image \"{tag}\" in \"{directory}\"; there {}",
                there_are(listed)
            ))),
            ([], _, None) => Err(FetchError::Request(format!(
                "\"{directory}\" has no images"
            ))),
            (_, [], _) => Err(FetchError::Request(format!(
                "\"{directory}\" has no image for linux on this processor"
            ))),
            // All of one list that run here: the first, as Docker chooses.
            (_, [first, ..], _)
                if here.iter().all(|one| one.tag() == first.tag()) && first.platform.is_some() =>
            {
                Ok(first)
            }
            _ => Err(FetchError::Request(format!(
                "\"{directory}\" has several images, name one as oci:DIR:TAG; there {}",
                there_are(listed)
            ))),
        }
    }

    fn read(&self, layout: &OwnedFd, wanted: &Descriptor) -> Result<Vec<u8>, FetchError> {
        let digest = wanted.digest()?;
        let bytes = self.small(self.open(layout, &digest)?)?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if found != digest {
            return Err(FetchError::Source(format!(
                "\"{}\" is damaged: what should be sha256:{} is sha256:{}",
                self.directory.display(),
                hex(&digest),
                hex(&found)
            )));
        }
        Ok(bytes)
    }

    fn open(&self, layout: &OwnedFd, digest: &[u8; 32]) -> Result<File, FetchError> {
        let path = format!("blobs/sha256/{}", hex(digest));
        self.images.file_in(layout, &path).map_err(|error| {
            FetchError::Request(format!(
                "cannot read {path} in \"{}\": {error}",
                self.directory.display()
            ))
        })
    }

    fn small(&self, file: File) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(&error))?;
        if bytes.len() as u64 > LARGEST {
            return Err(FetchError::Request(format!(
                "a description in \"{}\" has more than {LARGEST} bytes",
                self.directory.display()
            )));
        }
        Ok(bytes)
    }

    fn unreadable(&self, error: &std::io::Error) -> FetchError {
        FetchError::Request(format!(
            "\"{}\" cannot be read as an OCI layout: {error}",
            Path::new(&self.directory).display()
        ))
    }
}

fn there_are(listed: &[Descriptor]) -> String {
    let mut tags: Vec<_> = listed.iter().filter_map(Descriptor::tag).collect();
    tags.sort_unstable();
    tags.truncate(20);
    match tags.as_slice() {
        [] => "are none with a name".to_owned(),
        tags => format!("are: {}", tags.join(", ")),
    }
}
