//! The worker's files: what a job leaves in here is gone after the job, and after a crash at the next start.
//!
//! ```text
//! STATE/lock      held while a worker runs
//! STATE/tmp/      build contexts and scratch directories of running jobs; emptied at start
//! STATE/spool/    logs of jobs that run, or whose outcome has not been taken over yet; emptied at start
//! STATE/git/      mirrors of repositories, kept
//! STATE/identity  a secret by which a scheduler knows this worker again, kept
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use tracing::info;

/// An opened state directory, locked for this process.
pub(crate) struct StateDir {
    root: PathBuf,
    /// Held for the lock, which goes with the process however it ends.
    _lock: File,
}

impl StateDir {
    /// Opens the directory, creating one level if need be, and removes what an earlier worker left behind when it was killed.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// If another worker uses it, or it cannot be written.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        create_private(root)?;
        let root = std::path::absolute(root)?;
        let lock = lock(&root)?;
        for dir in ["tmp", "spool"] {
            let dir = root.join(dir);
            remove_all(&dir)?;
            create_private(&dir)?;
        }
        Ok(Self { root, _lock: lock })
    }

    /// Where running jobs have their directories.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where running jobs have their logs.
    pub(crate) fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Where the secret is by which a scheduler knows this worker again.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Where mirrors of repositories are.
    pub(crate) fn git(&self) -> PathBuf {
        self.root.join("git")
    }
}

fn lock(root: &Path) -> anyhow::Result<File> {
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        file.read_to_string(&mut owner).ok();
        bail!(
            "the state directory {} is in use by another worker (process {}): stop it, or give this one another --state-dir",
            root.display(),
            owner.trim()
        );
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn create_private(dir: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot create the directory {}", dir.display()))
        }
    }
}

fn remove_all(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => {
            info!("Removed what was left in \"{}\"", dir.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot empty the directory {}", dir.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_a_killed_worker_left_is_gone_and_mirrors_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let state = StateDir::open(&root).unwrap();
        std::fs::create_dir_all(state.tmp().join("job-1/context")).unwrap();
        std::fs::write(state.tmp().join("job-1/secret"), "hunter2").unwrap();
        std::fs::write(state.spool().join("1"), "log").unwrap();
        std::fs::create_dir_all(state.git().join("repo")).unwrap();
        drop(state);
        let state = StateDir::open(&root).unwrap();
        assert_eq!(std::fs::read_dir(state.tmp()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(state.spool()).unwrap().count(), 0);
        assert!(state.git().join("repo").is_dir());
        let mode = std::fs::metadata(state.tmp()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_second_worker_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).err().unwrap().to_string();
        let pid = std::process::id();
        assert!(
            error.contains(&format!("in use by another worker (process {pid})")),
            "{error}"
        );
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_parent_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = StateDir::open(&dir.path().join("a/b"))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("a/b"), "{error}");
    }
}
