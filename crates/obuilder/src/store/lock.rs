//! One process at a time has a store open. The kernel lets go of the lock when that process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};

use super::StoreError;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// How long the end of a store in this very process is waited for: it may still be removing files.
const OWN: Duration = Duration::from_secs(30);
/// How long another process is waited for: it may be about to end, or a child of one that ended to close what it inherited.
const OTHER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

impl Lock {
    /// Takes the lock of the store in `root`, whose file is `path`. Blocks.
    ///
    /// # Errors
    /// Another process has it.
    pub(super) fn take(path: &Path, root: &Path) -> Result<Self, StoreError> {
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow)
            .open(path)
            .map_err(StoreError::io("open", path))?;
        let started = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file);
                    let patience = match holder {
                        Some(pid) if pid == std::process::id() => OWN,
                        _ => OTHER,
                    };
                    if started.elapsed() >= patience {
                        let who = holder.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                        return Err(StoreError::Refused(format!(
                            "another process{who} has the store {} open; only one can at a time: wait for it, or use another directory",
                            root.display()
                        )));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(StoreError::io("lock", path)(error.into())),
            }
        }
        // Who has it is said for people alone. A full disk, which is to be emptied, must not keep anybody from that.
        let told = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = told {
            tracing::debug!(%error, "cannot say who has the store open");
        }
        Ok(Self { _file: file })
    }
}

/// Who says to have the lock.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
