//! A file or directory of a result, written to a directory or as a tar.

use std::io::{self, PipeReader, Write};
use std::path::{Path, PathBuf};

use bstr::{BStr, BString};
use tokio_util::sync::CancellationToken;

use super::walk::find;
use super::{ExportError, tar};
use crate::image::unpack::Tree;
use crate::image::{Unpack, UnpackError, UnpackLimits, unpack_layer};
use crate::store::Layer;

/// Where exported files go.
pub enum Destination {
    /// Into this directory, which is made if it is missing. Needs root, since owners are kept.
    Directory(PathBuf),
    /// As a tar.
    Tar(Box<dyn Write + Send>),
}

/// Exports what is at `path` in the result `layer`, with everything below it. Owners, modes, times, extended attributes and hard links are
/// kept. It is called what it is called there; of `/` and of a path with a slash at its end, only what is in it is exported.
///
/// # Errors
/// There is no such thing, or it cannot be read or written.
pub async fn export_path(
    layer: &Layer,
    path: &BStr,
    to: Destination,
    cancel: &CancellationToken,
) -> Result<(), ExportError> {
    // Whatever ends this ends the thread that writes.
    let stop = cancel.child_token();
    let _guard = stop.clone().drop_guard();
    let (path, view) = (BString::from(path), layer.view()?);
    view.with(move |root| write_path(root, path.as_ref(), to, &stop))
        .await?
}

/// Does what [`export_path`] does for the tree at `root`. It blocks.
///
/// # Errors
/// There is no such thing, or it cannot be read or written.
pub fn write_path(
    root: &Path,
    path: &BStr,
    to: Destination,
    cancel: &CancellationToken,
) -> Result<(), ExportError> {
    let tree = Tree::open(root).map_err(|error| ExportError::read(path, error))?;
    let start = find(&tree, path)?;
    let directory = match to {
        Destination::Tar(out) => return tar::write(&start, out, false, cancel),
        Destination::Directory(directory) => directory,
    };
    std::fs::create_dir_all(&directory).map_err(|error| ExportError::write(&directory, error))?;
    let (reader, writer) = io::pipe().map_err(ExportError::Tar)?;
    // One thread reads the tree, and this one makes the files: what unpacks images knows how to keep everything a file has.
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new()
            .name("export".into())
            .spawn_scoped(scope, || {
                let out = io::BufWriter::with_capacity(1 << 20, writer);
                tar::write(&start, out, false, cancel)
            })
            .map_err(ExportError::Tar)?;
        let made = unpack(&directory, reader, cancel);
        let read = match reading.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (read, made) {
            (Ok(()), Ok(())) => Ok(()),
            // The reader's pipe is broken because the writer gave up.
            (Ok(()) | Err(ExportError::Tar(_)), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
        }
    })
}

fn unpack(
    directory: &Path,
    tar: PipeReader,
    cancel: &CancellationToken,
) -> Result<(), ExportError> {
    let how = Unpack {
        limits: UnpackLimits {
            bytes: u64::MAX,
            entries: u64::MAX,
            directory_names: u64::MAX,
        },
        whiteouts: false,
        ..Unpack::default()
    };
    match unpack_layer(directory, tar, &how, cancel) {
        Ok(_) => Ok(()),
        Err(UnpackError::Cancelled) => Err(ExportError::Cancelled),
        Err(UnpackError::Io { path, source, .. }) => {
            Err(ExportError::write(directory.join(path.to_string()), source))
        }
        Err(error) => Err(ExportError::Unpack(error)),
    }
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::Tar(_) => f.write_str("Tar"),
        }
    }
}
