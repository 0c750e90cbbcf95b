//! `obuilder export`.

use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bstr::BStr;
use ocluster_cli::{Failure, output};
use ocluster_obuilder::export::{self, Destination, OciExport};
use tokio_util::sync::CancellationToken;

use super::{failed, open};
use crate::args::{Export, PROGRAM};
use crate::progress::shown;

pub(super) async fn run(args: Export, cancel: &CancellationToken) -> Result<(), Failure> {
    let what = match (args.path, args.oci) {
        (Some(path), _) => What::Files(path),
        (None, Some(directory)) => What::Image(directory),
        (None, None) => {
            return Err(Failure::usage(
                PROGRAM,
                "say what to export: --path PATH for files, or --oci DIR for an image",
            ));
        }
    };
    let store = open(&args.store).await?;
    let Some(layer) = store.layer(args.id).await else {
        return Err(Failure::failed(format!(
            "there is no result {} in the store: see \"obuilder ls\"",
            args.id
        )));
    };
    match what {
        What::Files(path) => {
            let path = BStr::new(path.as_os_str().as_bytes());
            let to = destination(args.to.as_deref())?;
            let exported = export::export_path(&layer, path, to, cancel);
            shown("exporting", exported).await.map_err(failed)
        }
        What::Image(directory) => {
            let to = OciExport {
                directory,
                tag: args.tag,
                ..OciExport::default()
            };
            let digest = shown("exporting", export::export_oci(&layer, to, cancel)).await;
            Ok(output::line(digest.map_err(failed)?)?)
        }
    }
}

/// What is exported of a result.
enum What {
    Files(PathBuf),
    Image(PathBuf),
}

/// A directory, or a tar on standard output.
fn destination(to: Option<&Path>) -> Result<Destination, Failure> {
    match to {
        Some(directory) => Ok(Destination::Directory(directory.to_owned())),
        None if io::stdout().is_terminal() => Err(Failure::failed(
            "a tar is nothing to read on a terminal: redirect it to a file, or say --to DIRECTORY",
        )),
        None => Ok(Destination::Tar(Box::new(io::stdout()))),
    }
}
