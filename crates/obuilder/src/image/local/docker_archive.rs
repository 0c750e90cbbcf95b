//! Images in files that `docker save` wrote: `docker-archive:FILE[:NAME]`. Such a file is a tar, perhaps compressed, with `manifest.json` and
//! the layers' tars in it; newer engines lay the same out as OCI blobs, which `manifest.json` names as well.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bstr::{BStr, BString, ByteSlice};
use futures::future::BoxFuture;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::documents::{Config, LARGEST, parse};
use super::{LocalImages, blocking, check};
use crate::StepLog;
use crate::image::blob::BlobReader;
use crate::image::unpack::{Archive, Compression, Kind, UnpackError, decompress, detect, hex};
use crate::image::{Blob, FetchError, ImageManifest, ImageSource, LayerDescriptor, registry};

/// The most members of an archive, and bytes of a decompressed one.
const MEMBERS: usize = 100_000;
const DECOMPRESSED: u64 = 64 << 30;
/// Links from name to name within an archive.
const LINKS: usize = 8;

/// One image of an archive. The image's digest is that of its configuration, which Docker shows as the image's id.
#[derive(Clone, Debug)]
pub struct DockerArchive(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Where,
    name: Option<String>,
    scratch: PathBuf,
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
enum Where {
    Path(PathBuf, LocalImages),
    /// A file without a name.
    Open(File),
}

/// The archive, uncompressed, and where in it the layers are.
#[derive(Debug)]
struct Opened {
    file: File,
    layers: HashMap<[u8; 32], Range<u64>>,
    manifest: ImageManifest,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

enum Member {
    At(Range<u64>),
    Link(BString),
}

impl DockerArchive {
    /// The image `name` in the archive `file`; without a name, the only one there. A compressed archive is decompressed into a file
    /// without a name in the directory `scratch`.
    #[must_use]
    pub fn new(file: PathBuf, name: Option<String>, images: LocalImages, scratch: PathBuf) -> Self {
        Self::at(Where::Path(file, images), name, scratch)
    }

    /// The only image in an archive that is open already.
    pub(in crate::image) fn open(file: File, scratch: PathBuf) -> Self {
        Self::at(Where::Open(file), None, scratch)
    }

    fn at(file: Where, name: Option<String>, scratch: PathBuf) -> Self {
        Self(Arc::new(Inner {
            file,
            name,
            scratch,
            opened: OnceLock::new(),
        }))
    }
}

impl ImageSource for DockerArchive {
    fn origin(&self) -> &str {
        "files"
    }

    fn manifest<'a>(
        &'a self,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>> {
        let (inner, cancel) = (Arc::clone(&self.0), cancel.clone());
        Box::pin(blocking(move || {
            Ok(inner.opened(&cancel)?.manifest.clone())
        }))
    }

    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        _log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>> {
        let (inner, cancel) = (Arc::clone(&self.0), cancel.clone());
        let digest = layer.digest;
        Box::pin(blocking(move || {
            let opened = inner.opened(&cancel)?;
            let range = opened.layers.get(&digest).cloned().ok_or_else(|| {
                FetchError::Request(format!("the archive has no layer sha256:{}", hex(&digest)))
            })?;
            Ok(Blob {
                file: opened.file.try_clone().map_err(|e| inner.unreadable(&e))?,
                range,
                verified: false,
            })
        }))
    }
}

impl Inner {
    fn opened(&self, cancel: &CancellationToken) -> Result<&Opened, FetchError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        // Two at once do the same work twice; one of the results is kept.
        let opened = self.look_through(cancel)?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn look_through(&self, cancel: &CancellationToken) -> Result<Opened, FetchError> {
        let file = match &self.file {
            Where::Path(path, images) => images.file(path)?,
            Where::Open(file) => file.try_clone().map_err(|e| self.unreadable(&e))?,
        };
        let file = self.uncompressed(file, cancel)?;
        let length = file.metadata().map_err(|e| self.unreadable(&e))?.len();
        let members = self.members(&file, length, cancel)?;
        let find = |name: &str| self.find(&members, name);
        let listed = self.small(&file, find("manifest.json")?)?;
        let listed: Vec<Listed> = parse("list of images", &listed)?;
        let image = self.choose(&listed)?;
        let config_bytes = self.small(&file, find(&image.config)?)?;
        let config: Config = parse("configuration", &config_bytes)?;
        let names = image.layers.as_deref().unwrap_or_default();
        let mut layers = HashMap::new();
        let mut descriptors = Vec::new();
        for (name, diff_id) in names.iter().zip(config.diff_ids(names.len())?) {
            check(cancel)?;
            let range = find(name)?;
            let size = range.end.saturating_sub(range.start);
            let digest = self.digest(&file, name, &range, diff_id)?;
            layers.insert(digest, range);
            descriptors.push(LayerDescriptor {
                digest,
                size: Some(size),
                diff_id: Some(diff_id),
            });
        }
        let id: [u8; 32] = Sha256::digest(&config_bytes).into();
        Ok(Opened {
            file,
            layers,
            manifest: ImageManifest {
                digest: Some(format!("sha256:{}", hex(&id))),
                layers: descriptors,
                env: config.env(),
            },
        })
    }

    fn uncompressed(&self, file: File, cancel: &CancellationToken) -> Result<File, FetchError> {
        let length = file.metadata().map_err(|e| self.unreadable(&e))?.len();
        let mut start = [0; 6];
        let got = BlobReader::new(
            file.try_clone().map_err(|e| self.unreadable(&e))?,
            0..length.min(6),
        )
        .read(&mut start)
        .map_err(|e| self.unreadable(&e))?;
        if detect(start.get(..got).unwrap_or_default()) == Ok(Compression::None) {
            return Ok(file);
        }
        let mut plain = tempfile::tempfile_in(&self.scratch).map_err(|e| self.unreadable(&e))?;
        let mut tar = decompress(BlobReader::new(file, 0..length)).map_err(|e| self.broken(&e))?;
        let mut piece = vec![0; 256 * 1024];
        let mut written = 0;
        loop {
            check(cancel)?;
            let got = match tar.read(&mut piece) {
                Ok(0) => return Ok(plain),
                Ok(got) => got,
                Err(error) => return Err(self.unreadable(&error)),
            };
            written += got as u64;
            if written > DECOMPRESSED {
                return Err(FetchError::Request(format!(
                    "{} has more than {DECOMPRESSED} bytes, decompressed",
                    self.shown()
                )));
            }
            plain
                .write_all(piece.get(..got).unwrap_or_default())
                .map_err(|source| {
                    FetchError::Store(crate::store::StoreError::Io {
                        action: "write a temporary file in",
                        path: self.scratch.clone(),
                        source,
                    })
                })?;
        }
    }

    fn members(
        &self,
        file: &File,
        length: u64,
        cancel: &CancellationToken,
    ) -> Result<HashMap<BString, Member>, FetchError> {
        let reader = BlobReader::new(
            file.try_clone().map_err(|e| self.unreadable(&e))?,
            0..length,
        );
        let mut archive = Archive::new(BufReader::with_capacity(256 * 1024, reader));
        let mut members = HashMap::new();
        while let Some(entry) = archive.next().map_err(|e| self.broken(&e))? {
            check(cancel)?;
            if members.len() >= MEMBERS {
                return Err(FetchError::Request(format!(
                    "{} has more than {MEMBERS} members",
                    self.shown()
                )));
            }
            let member = match entry.kind {
                Kind::File => Member::At(archive.rest()),
                // Engines of old stored a layer once, and linked to it from other images.
                Kind::Symlink(target) => {
                    Member::Link(joined(entry.path.as_bstr(), target.as_bstr()))
                }
                Kind::HardLink(target) => Member::Link(clean(target.as_bstr())),
                _ => continue,
            };
            members.insert(clean(entry.path.as_bstr()), member);
        }
        Ok(members)
    }

    fn find(
        &self,
        members: &HashMap<BString, Member>,
        name: &str,
    ) -> Result<Range<u64>, FetchError> {
        let mut wanted = clean(name.into());
        for _ in 0..LINKS {
            match members.get(&wanted) {
                Some(Member::At(range)) => return Ok(range.clone()),
                Some(Member::Link(target)) => wanted = target.clone(),
                None => break,
            }
        }
        Err(FetchError::Request(format!(
            "{} is not what docker save writes: it has no {name:?}",
            self.shown()
        )))
    }

    fn choose<'a>(&self, listed: &'a [Listed]) -> Result<&'a Listed, FetchError> {
        let tags = |image: &'a Listed| image.repo_tags.as_deref().unwrap_or_default();
        let Some(name) = &self.name else {
            return match listed {
                [only] => Ok(only),
                [] => Err(FetchError::Request(format!(
                    "{} has no images",
                    self.shown()
                ))),
                several => Err(FetchError::Request(format!(
                    "{} has several images, name one as docker-archive:FILE:NAME; there are: {}",
                    self.shown(),
                    several
                        .iter()
                        .flat_map(tags)
                        .take(20)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ")
                ))),
            };
        };
        let wanted = familiar(name);
        listed
            .iter()
            .find(|image| tags(image).iter().any(|tag| familiar(tag) == wanted))
            .ok_or_else(|| {
                FetchError::Request(format!(
                    "there is no image \"{name}\" in {}; there are: {}",
                    self.shown(),
                    listed
                        .iter()
                        .flat_map(tags)
                        .take(20)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ")
                ))
            })
    }

    /// The digest of a layer's bytes as they are.
    fn digest(
        &self,
        file: &File,
        name: &str,
        range: &Range<u64>,
        diff_id: [u8; 32],
    ) -> Result<[u8; 32], FetchError> {
        let failed = |error: io::Error| self.unreadable(&error);
        let reader = || Ok(BlobReader::new(file.try_clone()?, range.clone()));
        let mut start = Vec::new();
        reader()
            .map_err(failed)?
            .take(6)
            .read_to_end(&mut start)
            .map_err(failed)?;
        if detect(&start) == Ok(Compression::None) {
            return Ok(diff_id);
        }
        // A claim, which is compared when the layer is unpacked.
        if let Some(claimed) = name
            .strip_prefix("blobs/sha256/")
            .and_then(registry::Digest::from_hex)
        {
            return Ok(claimed.bytes());
        }
        let mut hash = Sha256::new();
        io::copy(&mut reader().map_err(failed)?, &mut hash).map_err(failed)?;
        Ok(hash.finalize().into())
    }

    fn small(&self, file: &File, range: Range<u64>) -> Result<Vec<u8>, FetchError> {
        if range.end.saturating_sub(range.start) > LARGEST {
            return Err(FetchError::Request(format!(
                "a description in {} has more than {LARGEST} bytes",
                self.shown()
            )));
        }
        let mut bytes = Vec::new();
        file.try_clone()
            .and_then(|file| BlobReader::new(file, range).read_to_end(&mut bytes))
            .map_err(|e| self.unreadable(&e))?;
        Ok(bytes)
    }

    fn shown(&self) -> String {
        match &self.file {
            Where::Path(path, _) => format!("\"{}\"", path.display()),
            Where::Open(_) => "what the Docker engine sent".to_owned(),
        }
    }

    fn broken(&self, error: &UnpackError) -> FetchError {
        FetchError::Request(format!("{} cannot be read: {error}", self.shown()))
    }

    fn unreadable(&self, error: &io::Error) -> FetchError {
        FetchError::Source(format!("{} cannot be read: {error}", self.shown()))
    }
}

/// A name without what makes no difference.
fn clean(name: &BStr) -> BString {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split_str("/") {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    bstr::join("/", parts).into()
}

/// What a link at `name` leads to.
fn joined(name: &BStr, target: &BStr) -> BString {
    let directory = name.rfind_byte(b'/').unwrap_or(0);
    let directory = name.get(..directory).unwrap_or_default();
    clean(bstr::join("/", [directory, target.as_bytes()]).as_bstr())
}

/// An image's name as Docker shows it: without the default registry, with a tag.
fn familiar(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_docker_shows_them() {
        for same in [
            "busybox",
            "busybox:latest",
            "docker.io/library/busybox",
            "library/busybox",
        ] {
            assert_eq!(familiar(same), "busybox:latest");
        }
        assert_eq!(familiar("host:5000/a"), "host:5000/a:latest");
        assert_eq!(familiar("a/b:1"), "a/b:1");
    }

    #[test]
    fn links_lead_from_where_they_are() {
        assert_eq!(
            joined("a/layer.tar".into(), "../b/layer.tar".into()),
            "b/layer.tar"
        );
        assert_eq!(joined("layer.tar".into(), "./x".into()), "x");
        assert_eq!(clean("./a//b/".into()), "a/b");
    }
}
