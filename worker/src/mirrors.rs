//! Mirrors of git repositories that no job has used for long are removed: when the worker starts, then daily. One that is in use stays.

use std::path::PathBuf;
use std::time::Duration;

use ocluster_git_context::Cache;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// How often mirrors are looked at.
const PERIOD: Duration = Duration::from_secs(24 * 3600);

/// Removes the mirrors below `dir` that were not used for `keep`, again and again until the answer is dropped.
pub(crate) fn expire(
    pool: &tokio::runtime::Handle,
    dir: PathBuf,
    keep: Duration,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(pool.spawn(async move {
        loop {
            let cache = Cache::new(dir.clone());
            match tokio::task::spawn_blocking(move || cache.expire(keep)).await {
                Ok(Ok(expired)) => {
                    for mirror in expired.removed {
                        info!("Removed \"{}\", which no job has used", mirror.display());
                    }
                }
                Ok(Err(error)) => warn!(%error, "Cannot remove unused mirrors of repositories"),
                Err(crash) => warn!(%crash, "Removing unused mirrors of repositories crashed"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::SystemTime;

    use super::*;

    /// A mirror that was last used this long ago.
    fn mirror(dir: &std::path::Path, name: &str, unused_for: Duration) -> PathBuf {
        let mirror = dir.join(name);
        fs::create_dir(&mirror).unwrap();
        let used = File::create(dir.join(format!("{name}.use"))).unwrap();
        used.set_modified(SystemTime::now() - unused_for).unwrap();
        mirror
    }

    #[tokio::test]
    async fn what_no_job_has_used_for_long_is_removed_and_the_rest_stays() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let dir = tempfile::tempdir().unwrap();
        let old = mirror(dir.path(), "old", 3 * DAY);
        let young = mirror(dir.path(), "young", DAY);
        let runtime = tokio::runtime::Handle::current();
        let _expiring = expire(&runtime, dir.path().to_owned(), 2 * DAY);
        let removed = async {
            while old.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), removed)
            .await
            .expect("the old mirror stays");
        assert!(young.exists());
    }
}
