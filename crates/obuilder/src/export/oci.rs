//! A result as an image in an OCI layout, which skopeo, podman and Docker take: one layer with the whole tree.
//!
//! The same result gives the same bytes: entries are in order, and nothing says when it was written. Other images that are in the layout
//! already stay; one with the same tag is replaced.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::walk::find;
use super::{ExportError, tar};
use crate::image::architecture;
use crate::image::unpack::{Tree, hex};
use crate::store::Layer;

/// Which image of an index a name stands for.
const TAG: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How the layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// With gzip, which everything reads.
    #[default]
    Gzip,
    /// With zstd: faster and smaller; Docker reads it since version 23.
    Zstd,
}

/// What a container of the image starts with. Empty parts are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The environment, in order.
    pub env: Vec<(BString, BString)>,
    /// The working directory.
    pub workdir: Option<BString>,
    /// Who runs it: a name, or numbers as in `1000:1000`.
    pub user: Option<BString>,
    /// The command.
    pub cmd: Vec<BString>,
}

/// Where an image goes, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OciExport {
    /// The layout's directory; made if it is missing.
    pub directory: PathBuf,
    /// The image's name in the layout.
    pub tag: String,
    /// How its layer is compressed.
    pub compression: LayerCompression,
    /// How it is started.
    pub config: ImageConfig,
}

/// Exports the result `layer` as an image. An environment that `to` leaves empty is that of the base image. Returns the digest of its manifest, `sha256:...`.
///
/// # Errors
/// The result cannot be read, has names that images cannot have, or the layout cannot be written.
pub async fn export_oci(
    layer: &Layer,
    mut to: OciExport,
    cancel: &CancellationToken,
) -> Result<String, ExportError> {
    // Whatever ends this ends the thread that writes.
    let stop = cancel.child_token();
    let _guard = stop.clone().drop_guard();
    if to.config.env.is_empty() {
        to.config.env = layer.base_env().to_vec();
    }
    let view = layer.view()?;
    view.with(move |root| write_oci(root, &to, &stop)).await?
}

/// Does what [`export_oci`] does for the tree at `root`. It blocks.
///
/// # Errors
/// The tree cannot be read, has names that images cannot have, or the layout cannot be written.
pub fn write_oci(
    root: &Path,
    to: &OciExport,
    cancel: &CancellationToken,
) -> Result<String, ExportError> {
    let layout = Layout::open(&to.directory)?;
    let config = runtime(&to.config)?;
    let tree = Tree::open(root).map_err(|error| ExportError::read(b"/".as_bstr(), error))?;
    let start = find(&tree, b"/".as_bstr())?;
    let mut diff_id = Sha256::new();
    let (suffix, layer) = match to.compression {
        LayerCompression::None => {
            let layer = layout.blob(|out| tar::write(&start, Tee(out, &mut diff_id), true, cancel));
            ("", layer?)
        }
        LayerCompression::Gzip => {
            let layer = layout.blob(|out| {
                let mut gzip = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                tar::write(&start, Tee(&mut gzip, &mut diff_id), true, cancel)?;
                gzip.finish().map_err(ExportError::Tar)?;
                Ok(())
            });
            ("+gzip", layer?)
        }
        LayerCompression::Zstd => {
            let layer = layout.blob(|out| {
                let mut zstd = zstd::Encoder::new(out, 3).map_err(ExportError::Tar)?;
                tar::write(&start, Tee(&mut zstd, &mut diff_id), true, cancel)?;
                zstd.finish().map_err(ExportError::Tar)?;
                Ok(())
            });
            ("+zstd", layer?)
        }
    };
    let diff_id: [u8; 32] = diff_id.finalize().into();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&diff_id))] },
        "history": [{ "created_by": "obuilder" }],
    });
    let config = layout.json(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": [layer.descriptor(&format!("{LAYER}{suffix}"))],
    });
    let manifest = layout.json(&manifest)?;
    layout.name(&manifest, &to.tag)?;
    Ok(manifest.digest())
}

fn runtime(config: &ImageConfig) -> Result<Value, ExportError> {
    let text = |bytes: &BString| match bytes.to_str() {
        Ok(text) => Ok(Value::from(text)),
        Err(_) => Err(ExportError::Refused {
            path: bytes.clone(),
            why: "an image's configuration can only hold UTF-8",
        }),
    };
    let mut runtime = serde_json::Map::new();
    let mut env = Vec::new();
    for (name, value) in &config.env {
        let mut entry = name.clone();
        entry.push(b'=');
        entry.extend_from_slice(value);
        env.push(text(&entry)?);
    }
    let cmd = config.cmd.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    for (key, list) in [("Env", env), ("Cmd", cmd)] {
        if !list.is_empty() {
            runtime.insert(key.to_owned(), list.into());
        }
    }
    for (key, value) in [("WorkingDir", &config.workdir), ("User", &config.user)] {
        if let Some(value) = value {
            runtime.insert(key.to_owned(), text(value)?);
        }
    }
    Ok(runtime.into())
}

/// An OCI layout being written to.
struct Layout<'a>(&'a Path);

/// Something in it.
struct Written {
    digest: [u8; 32],
    size: u64,
}

impl<'a> Layout<'a> {
    fn open(directory: &'a Path) -> Result<Self, ExportError> {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|error| ExportError::write(&blobs, error))?;
        let layout = Self(directory);
        layout.replace("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        Ok(layout)
    }

    fn blob(
        &self,
        write: impl FnOnce(&mut Counting<BufWriter<&File>>) -> Result<(), ExportError>,
    ) -> Result<Written, ExportError> {
        let directory = self.0.join("blobs/sha256");
        let failed = |error: io::Error| ExportError::write(&directory, error);
        let file = tempfile::NamedTempFile::new_in(&directory).map_err(failed)?;
        let written = {
            let mut out = Counting {
                out: BufWriter::with_capacity(1 << 20, file.as_file()),
                hash: Sha256::new(),
                size: 0,
            };
            write(&mut out).map_err(|error| match error {
                ExportError::Tar(error) => failed(error),
                other => other,
            })?;
            out.flush().map_err(failed)?;
            Written {
                digest: out.hash.finalize().into(),
                size: out.size,
            }
        };
        self.keep(file, &directory.join(hex(&written.digest)))?;
        Ok(written)
    }

    fn json(&self, value: &Value) -> Result<Written, ExportError> {
        let bytes = serde_json::to_vec(value).map_err(|e| ExportError::write(self.0, e))?;
        self.blob(|out| out.write_all(&bytes).map_err(ExportError::Tar))
    }

    /// Makes `tag` mean the image.
    fn name(&self, manifest: &Written, tag: &str) -> Result<(), ExportError> {
        let path = self.0.join("index.json");
        let failed = |error: io::Error| ExportError::write(&path, error);
        let mut manifests = match std::fs::read(&path) {
            Ok(bytes) => {
                let index: Value =
                    serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
                match index.get("manifests") {
                    Some(Value::Array(manifests)) => manifests.clone(),
                    _ => return Err(failed(io::Error::other("it is no index of images"))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let tagged = |other: &Value| {
            other
                .get("annotations")
                .and_then(|annotations| annotations.get(TAG))
                .and_then(Value::as_str)
                == Some(tag)
        };
        manifests.retain(|other| !tagged(other));
        let mut descriptor = manifest.descriptor(MANIFEST);
        if let Value::Object(fields) = &mut descriptor {
            fields.insert("annotations".to_owned(), json!({ TAG: tag }));
        }
        manifests.push(descriptor);
        self.replace(
            "index.json",
            &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }),
        )
    }

    fn replace(&self, name: &str, value: &Value) -> Result<(), ExportError> {
        let path = self.0.join(name);
        let failed = |error: io::Error| ExportError::write(&path, error);
        let bytes = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(self.0).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        self.keep(file, &path)
    }

    fn keep(&self, file: tempfile::NamedTempFile, path: &Path) -> Result<(), ExportError> {
        // Temporary files are for their owner only, images are not.
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::fchmod(file.as_file(), mode).map_err(|e| ExportError::write(path, e))?;
        file.persist(path)
            .map_err(|error| ExportError::write(path, error.error))?;
        Ok(())
    }
}

impl Written {
    fn digest(&self) -> String {
        format!("sha256:{}", hex(&self.digest))
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest(), "size": self.size })
    }
}

/// Takes digest and length of what is written.
struct Counting<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Takes the digest of what passes.
struct Tee<'a, W>(W, &'a mut Sha256);

impl<W: Write> Write for Tee<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
