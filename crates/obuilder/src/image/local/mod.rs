//! Base images in files of this machine: an OCI layout, what `docker save` wrote, or the tar of a root filesystem.
//!
//! The files are the operator's, but what they hold and which of them is asked for comes from others: paths are checked before anything is
//! opened, and digests before anything is believed.

mod access;
mod docker_archive;
mod documents;
mod oci;
mod rootfs;

pub use access::LocalImages;
pub use docker_archive::DockerArchive;
pub use oci::OciLayout;
pub use rootfs::RootfsTar;

use tokio_util::sync::CancellationToken;

use super::FetchError;

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(FetchError::Source(format!(
            "reading a local image was interrupted: {error}"
        ))),
    }
}

fn check(cancel: &CancellationToken) -> Result<(), FetchError> {
    if cancel.is_cancelled() {
        return Err(FetchError::Cancelled);
    }
    Ok(())
}
