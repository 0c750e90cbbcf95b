//! The real engine and the disk that its data is on.
//!
//! Everything runs on the pool of ordinary threads: neither a long answer nor a dead disk holds up the vat thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::StatVfs;
use tokio_util::task::AbortOnDropHandle;

use super::care::Keeper;
use super::limit::{Space, Supply};
use crate::executor::docker::PruneScope;
use crate::executor::{DockerExecutor, Failure};

/// How long a disk may take to tell how full it is. One that takes longer is as good as gone.
const STATVFS_LIMIT: Duration = Duration::from_secs(10);

/// An engine on this machine.
pub(crate) struct Host {
    docker: Arc<DockerExecutor>,
    pool: tokio::runtime::Handle,
}

impl Host {
    /// The engine of `docker`, asked from the threads of `pool`.
    pub(crate) fn new(docker: Arc<DockerExecutor>, pool: tokio::runtime::Handle) -> Self {
        Self { docker, pool }
    }

    /// The engine.
    pub(crate) fn docker(&self) -> Arc<DockerExecutor> {
        self.docker.clone()
    }

    /// Asks on the pool. The question is dropped with the future.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, String> {
        match AbortOnDropHandle::new(self.pool.spawn(question)).await {
            Ok(answer) => answer.map_err(|failure| failure.message),
            Err(crash) => Err(crash.to_string()),
        }
    }
}

impl Keeper for Host {
    async fn root_dir(&self) -> Result<PathBuf, String> {
        let docker = self.docker.clone();
        self.ask(async move { docker.root_dir().await }).await
    }

    async fn space(&self, dir: &Path) -> Result<Space, String> {
        let failed = |reason: &dyn std::fmt::Display| {
            format!(
                "cannot tell how full the disk of \"{}\" is: {reason}",
                dir.display()
            )
        };
        let path = dir.to_owned();
        let asked = self
            .pool
            .spawn_blocking(move || rustix::fs::statvfs(&path).map_err(std::io::Error::from));
        match tokio::time::timeout(STATVFS_LIMIT, asked).await {
            Ok(Ok(Ok(stat))) => Ok(space(&stat)),
            Ok(Ok(Err(error))) => Err(failed(&error)),
            Ok(Err(crash)) => Err(failed(&crash)),
            Err(_) => Err(failed(&"it does not answer")),
        }
    }

    async fn images_size(&self) -> Result<u64, String> {
        let docker = self.docker.clone();
        self.ask(async move { docker.images_size().await }).await
    }

    async fn prune(&self, scope: PruneScope) -> Result<u64, String> {
        let docker = self.docker.clone();
        let pruned = self.ask(async move { docker.prune(scope).await }).await?;
        Ok(pruned.bytes)
    }
}

fn space(stat: &StatVfs) -> Space {
    Space {
        blocks: Supply {
            total: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
        },
        inodes: Supply {
            total: stat.f_files,
            free: stat.f_ffree,
            available: stat.f_favail,
        },
    }
}
