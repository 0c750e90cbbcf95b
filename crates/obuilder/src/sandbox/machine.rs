//! What all steps of a sandbox share: what was found out about the machine when the sandbox was opened, and the lock on its directory.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::cgroup::Cgroups;
use super::request::machine_path;
use super::{RuncConfig, SandboxError, Seccomp, runtime};
use crate::store::is_full_disk;

/// How often the lock of another sandbox is tried, and how long to wait in between. The last step of one that was just closed may still
/// be ending.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(50);

/// A machine that can run steps.
#[derive(Debug)]
pub(super) struct Machine {
    /// The runtime, absolute.
    pub(super) runtime: PathBuf,
    /// An empty directory, on which each step's thread mounts its own files.
    pub(super) private: PathBuf,
    pub(super) cgroups: Arc<Cgroups>,
    pub(super) cgroup_namespaces: bool,
    pub(super) seccomp: Seccomp,
    pub(super) fast_sync: bool,
    /// What names of containers begin with.
    prefix: String,
    /// Held while any step's thread lives. The last field: it is let go when the control groups are gone.
    _lock: File,
}

impl Machine {
    /// Looks at the machine, takes the lock and removes what an earlier sandbox of this directory left.
    pub(super) async fn open(config: &RuncConfig) -> Result<Self, SandboxError> {
        let trouble = |message| SandboxError::Machine {
            message,
            full_disk: false,
        };
        if !rustix::process::geteuid().is_root() {
            return Err(trouble(
                "steps run in containers that only root can make; run the worker as root"
                    .to_owned(),
            ));
        }
        let runtime = runtime::find(&config.runtime).await?;
        let (state, lock) = lock(&config.state).await?;
        let hash: String = Sha256::digest(state.as_os_str().as_encoded_bytes())
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let prefix = format!("obuilder-{hash}");
        let base = Path::new("/").join(&config.cgroup_parent).join(&prefix);
        machine_path(&base)?;
        if base.components().any(|part| part == Component::ParentDir) {
            return Err(trouble(format!(
                "the control group {} cannot be: it leads upwards",
                config.cgroup_parent.display()
            )));
        }
        let private = state.join("private");
        machine_path(&private)?;
        let place = private.clone();
        let cgroups = blocking(move || {
            let cgroups = Cgroups::of_this_machine(base).map_err(trouble)?;
            cgroups.clean().map_err(trouble)?;
            make_private(&place).map_err(|error| of_disk(&place, &error))?;
            Ok(cgroups)
        })
        .await?;
        Ok(Self {
            runtime,
            private,
            cgroups: Arc::new(cgroups),
            cgroup_namespaces: Path::new("/proc/self/ns/cgroup").exists(),
            seccomp: config.seccomp,
            fast_sync: config.fast_sync,
            prefix,
            _lock: lock,
        })
    }

    /// A name for a container that no other ever had.
    pub(super) fn new_id(&self) -> String {
        format!("{}-{:016x}", self.prefix, rand::rng().random::<u64>())
    }
}

/// The directory `state`, absolute, and its lock.
async fn lock(state: &Path) -> Result<(PathBuf, File), SandboxError> {
    let given = state.to_owned();
    let (state, lock) = blocking(move || {
        let open = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&given)?;
            let state = given.canonicalize()?;
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(state.join("lock"))?;
            Ok((state, lock))
        };
        open().map_err(|error| of_disk(&given, &error))
    })
    .await?;
    for _ in 0..TRIES {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok((state, lock)),
            Err(Errno::WOULDBLOCK) => tokio::time::sleep(BETWEEN).await,
            Err(error) => return Err(of_disk(&state.join("lock"), &error.into())),
        }
    }
    Err(SandboxError::Machine {
        message: format!(
            "another process runs steps in {}; each worker needs a store of its own",
            state.display()
        ),
        full_disk: false,
    })
}

/// Makes `private` an empty directory. Whatever is in it was written by nobody we know.
fn make_private(private: &Path) -> io::Result<()> {
    match fs::remove_dir_all(private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    DirBuilder::new().mode(0o700).create(private)
}

fn of_disk(path: &Path, error: &io::Error) -> SandboxError {
    SandboxError::Machine {
        message: format!("cannot use {} for sandboxes: {error}", path.display()),
        full_disk: is_full_disk(error),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(SandboxError::Machine {
                message: format!("the preparations of sandboxes broke off: {error}"),
                full_disk: false,
            })
        })
}
