//! The real engine and the disk that its data is on.
//!
//! Everything runs on the pool of ordinary threads: neither a long answer nor a dead disk holds up the vat thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::StatVfs;
use tokio::sync::Semaphore;
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
    disk: OneCall,
}

/// Has a dead disk hold up one thread at most, however often it is looked at.
struct OneCall {
    turn: Arc<Semaphore>,
    /// How long to wait for the earlier call and this one.
    limit: Duration,
}

impl OneCall {
    fn new(limit: Duration) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            limit,
        }
    }

    /// What `call` returns, which may block. Waits for an earlier call, whoever has given up on that; `None` after the
    /// limit.
    async fn run<T: Send + 'static>(
        &self,
        pool: &tokio::runtime::Handle,
        call: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Option<std::io::Result<T>> {
        let called = async {
            let turn = self.turn.clone().acquire_owned().await;
            let turn = turn.map_err(std::io::Error::other)?;
            let blocking = pool.spawn_blocking(move || {
                let _turn = turn;
                call()
            });
            blocking.await.map_err(std::io::Error::other)?
        };
        tokio::time::timeout(self.limit, called).await.ok()
    }
}

impl Host {
    /// The engine of `docker`, asked from the threads of `pool`.
    pub(crate) fn new(docker: Arc<DockerExecutor>, pool: tokio::runtime::Handle) -> Self {
        Self {
            docker,
            pool,
            disk: OneCall::new(STATVFS_LIMIT),
        }
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
        let look = move || rustix::fs::statvfs(&path).map_err(std::io::Error::from);
        match self.disk.run(&self.pool, look).await {
            Some(Ok(stat)) => Ok(space(&stat)),
            Some(Err(error)) => Err(failed(&error)),
            None => Err(failed(&"it does not answer")),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_dead_disk_holds_up_one_thread_however_often_it_is_looked_at() {
        let pool = tokio::runtime::Handle::current();
        let disk = OneCall::new(Duration::from_millis(50));
        let calls = Arc::new(AtomicU32::new(0));
        let (revive, dead) = mpsc::channel::<()>();
        let dead = Arc::new(std::sync::Mutex::new(dead));
        let look = || {
            let (calls, dead) = (calls.clone(), dead.clone());
            disk.run(&pool, move || {
                calls.fetch_add(1, Ordering::SeqCst);
                // Returns once the disk answers, and at once from then on.
                let _ = dead.lock().unwrap().recv();
                Ok(())
            })
        };
        for _ in 0..5 {
            assert!(look().await.is_none());
        }
        // Then only the first has begun, and once the disk answers, the next look does as well.
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(revive);
        while look().await.is_none() {}
    }
}
