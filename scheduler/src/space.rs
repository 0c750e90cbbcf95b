//! Watches the room on the filesystem of the state directory, so that new jobs are refused while there is still enough for those that
//! were accepted: their logs, and the store, which a full disk stops for good.
//!
//! It looks once a second on a thread that may wait for a disk. Whoever asks gets the last answer and never waits. Nothing that runs
//! is ever stopped here, and nothing is removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ocluster_store::StoreError;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(1);
/// Files that have to be free on filesystems which count them. A new job makes two at most, and the store a few.
const MIN_FILES: u64 = 1000;
/// Once there was too little room, so much more than the bound, as a part of it, has to be free before it is enough again: otherwise a disk that stands
/// at the bound would take and refuse by turns.
const MARGIN: u64 = 16;

/// What has to be free for the store, whatever the operator says: its engine writes half a mebibyte at once, and hangs when it meets
/// a full disk while it starts.
pub(crate) const STORE_NEEDS: u64 = 8 << 20;

/// What a filesystem has free for a process without privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// In bytes.
    pub(crate) bytes: u64,
    /// Files that can still be made; `None` where the filesystem does not count them.
    pub(crate) files: Option<u64>,
}

impl Space {
    /// What is free in the filesystem of `directory`. May wait for the disk.
    ///
    /// # Errors
    /// When the directory is not there, or the system does not tell.
    pub(crate) fn measure(directory: &Path) -> std::io::Result<Self> {
        let stat = rustix::fs::statvfs(directory)?;
        Ok(Self {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            files: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    /// What is short when `min_free` bytes have to be free, if anything.
    pub(crate) fn shortage(self, min_free: u64) -> Option<NoRoom> {
        if min_free == 0 {
            return None;
        }
        if self.bytes < min_free {
            return Some(NoRoom::Bytes {
                free: self.bytes,
                needed: min_free,
            });
        }
        self.files
            .filter(|files| *files < MIN_FILES)
            .map(|free| NoRoom::Files { free })
    }

    /// As [`shortage`](Self::shortage), knowing what was short a moment ago.
    fn shortage_after(self, before: Option<NoRoom>, min_free: u64) -> Option<NoRoom> {
        let short = self.shortage(min_free);
        match (short, before) {
            (None, Some(NoRoom::Bytes { .. })) => self
                .shortage(min_free.saturating_add(min_free / MARGIN))
                .map(|_| NoRoom::Bytes {
                    free: self.bytes,
                    needed: min_free,
                }),
            _ => short,
        }
    }
}

/// Why there is no room for new jobs, for those who bring them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// Too few bytes are free.
    #[error(
        "the scheduler's disk has {} free, and new jobs need {} (--min-free): try again later, or ask the operator",
        shown(*free),
        shown(*needed)
    )]
    Bytes {
        /// Bytes that are free.
        free: u64,
        /// Bytes that should be.
        needed: u64,
    },
    /// Too few files can be made.
    #[error(
        "the scheduler's disk has room for {free} more files, and new jobs need {MIN_FILES}: try again later, or ask the operator"
    )]
    Files {
        /// Files that can still be made.
        free: u64,
    },
}

impl NoRoom {
    /// What is short, for the operator.
    pub(crate) fn in_short(self) -> String {
        match self {
            Self::Bytes { free, needed } => {
                format!("{} are free, and {} should be", shown(free), shown(needed))
            }
            Self::Files { free } => {
                format!("{free} files can be made, and it should be {MIN_FILES}")
            }
        }
    }
}

/// Bytes as people read them, rounded down: a bound that is not reached must not look reached.
fn shown(bytes: u64) -> String {
    match bytes {
        ..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Whether there is room to open the store of a state directory, which has to be there. May wait for the disk.
///
/// # Errors
/// [`StoreError::Io`] for a full disk, if there is not. A system that does not tell how much there is gets the benefit of the doubt.
pub(crate) fn require_room_for_store(directory: &Path) -> Result<(), StoreError> {
    let Ok(space) = Space::measure(directory) else {
        return Ok(());
    };
    if space.bytes >= STORE_NEEDS {
        return Ok(());
    }
    Err(StoreError::Io {
        what: format!("open the store in {}", directory.display()),
        why: format!(
            "its filesystem has {} free, and the store needs {}; make room there, then start the scheduler again",
            shown(space.bytes),
            shown(STORE_NEEDS)
        ),
        full: true,
    })
}

/// Knows whether there is room for new jobs. A clone knows the same, on any thread.
#[derive(Clone)]
pub(crate) struct SpaceGuard(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    min_free: u64,
    seen: watch::Sender<Seen>,
    refused: AtomicU64,
}

/// What the last look showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    space: Option<Space>,
    short: Option<NoRoom>,
}

impl SpaceGuard {
    /// Looks for the first time, which may wait for the disk. With `min_free` 0 there is always room.
    pub(crate) fn new(directory: &Path, min_free: u64) -> Self {
        let guard = Self::unseen(directory, min_free);
        guard.see(Space::measure(directory));
        guard
    }

    /// One that has seen so much room, for tests of others.
    #[cfg(test)]
    pub(crate) fn seen(free: u64, min_free: u64) -> Self {
        let guard = Self::unseen(Path::new("/var/lib/ocluster"), min_free);
        guard.see(Ok(Space {
            bytes: free,
            files: None,
        }));
        guard
    }

    fn unseen(directory: &Path, min_free: u64) -> Self {
        Self(Arc::new(Shared {
            directory: directory.to_owned(),
            min_free,
            seen: watch::Sender::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// Goes on looking, on the runtime at hand, until what is given back is dropped.
    pub(crate) fn keep_looking(&self, runtime: &tokio::runtime::Handle) -> AbortOnDropHandle<()> {
        let guard = self.clone();
        AbortOnDropHandle::new(runtime.spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let directory = guard.0.directory.clone();
                // One look at a time: a disk that does not answer leaves things as they were.
                let looked = tokio::task::spawn_blocking(move || Space::measure(&directory));
                if let Ok(space) = looked.await {
                    guard.see(space);
                }
            }
        }))
    }

    /// Why a new job is to be refused now, if it is. Counts the refusal.
    pub(crate) fn refusal(&self) -> Option<NoRoom> {
        let short = self.0.seen.borrow().short;
        if short.is_some() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        short
    }

    /// Bytes that are free, as far as is known.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.0.seen.borrow().space.map(|space| space.bytes)
    }

    /// Whether new jobs are refused now.
    pub(crate) fn is_short(&self) -> bool {
        self.0.seen.borrow().short.is_some()
    }

    /// How many jobs were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Takes note of a look.
    fn see(&self, looked: std::io::Result<Space>) {
        let before = *self.0.seen.borrow();
        let now = match &looked {
            Ok(space) => Seen {
                space: Some(*space),
                short: space.shortage_after(before.short, self.0.min_free),
            },
            // What cannot be seen is no reason to turn away what may well fit.
            Err(_) => Seen::default(),
        };
        let directory = self.0.directory.display();
        match (&looked, before.short, now.short) {
            (Err(error), ..) if before.space.is_some() => {
                warn!(%error, "Cannot see how much room {directory} has; new jobs are taken as if there were enough");
            }
            (_, None, Some(NoRoom::Bytes { free, needed })) => warn!(
                "The filesystem of {directory} has {} free; new jobs are refused until there are more than {}. What runs goes on",
                shown(free),
                shown(needed)
            ),
            (_, None, Some(NoRoom::Files { free })) => warn!(
                "The filesystem of {directory} has room for {free} more files; new jobs are refused until there is room for {MIN_FILES}. What runs goes on"
            ),
            (Ok(space), Some(_), None) => warn!(
                "The filesystem of {directory} has {} free; new jobs are taken again",
                shown(space.bytes)
            ),
            _ => {}
        }
        self.0.seen.send_replace(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(mib: u64) -> Space {
        Space {
            bytes: mib * MIB,
            files: Some(1_000_000),
        }
    }

    fn guard(min_free: u64) -> SpaceGuard {
        SpaceGuard::unseen(Path::new("/var/lib/ocluster"), min_free)
    }

    #[test]
    fn new_jobs_are_refused_below_the_bound_in_words_that_help() {
        let guard = guard(256 * MIB);
        guard.see(Ok(space(256)));
        assert_eq!(guard.refusal(), None);
        guard.see(Ok(space(120)));
        assert_eq!(
            guard.refusal().unwrap().to_string(),
            "the scheduler's disk has 120 MiB free, and new jobs need 256 MiB (--min-free): try again later, or ask the operator"
        );
        assert_eq!(guard.refused(), 1);
        assert_eq!(guard.free_bytes(), Some(120 * MIB));
    }

    #[test]
    fn a_little_more_than_the_bound_has_to_be_free_before_jobs_are_taken_again() {
        let guard = guard(256 * MIB);
        guard.see(Ok(space(255)));
        for (free, refused) in [(256, true), (271, true), (272, false), (256, false)] {
            guard.see(Ok(space(free)));
            assert_eq!(guard.is_short(), refused, "{free} MiB");
        }
    }

    #[test]
    fn files_can_run_out_as_well() {
        let guard = guard(MIB);
        let files = |files| Space {
            bytes: 1 << 40,
            files,
        };
        guard.see(Ok(files(Some(999))));
        assert_eq!(
            guard.refusal().unwrap().to_string(),
            "the scheduler's disk has room for 999 more files, and new jobs need 1000: try again later, or ask the operator"
        );
        guard.see(Ok(files(Some(1000))));
        assert_eq!(guard.refusal(), None);
        guard.see(Ok(files(None)));
        assert_eq!(guard.refusal(), None);
    }

    #[test]
    fn without_a_bound_nothing_is_refused() {
        let guard = guard(0);
        guard.see(Ok(Space {
            bytes: 0,
            files: Some(0),
        }));
        assert_eq!(guard.refusal(), None);
    }

    #[test]
    fn what_cannot_be_seen_keeps_nobody_out() {
        let guard = guard(MIB);
        guard.see(Ok(space(0)));
        assert!(guard.is_short());
        guard.see(Err(std::io::Error::other("away")));
        assert_eq!((guard.refusal(), guard.free_bytes()), (None, None));
    }

    #[test]
    fn small_amounts_are_not_shown_as_nothing() {
        assert_eq!(shown(0), "0 KiB");
        assert_eq!(shown(1023 << 10), "1023 KiB");
        assert_eq!(shown((120 << 20) + 5), "120 MiB");
    }

    #[test]
    fn a_filesystem_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::measure(dir.path()).unwrap();
        assert_eq!(space.shortage(u64::MAX).is_some(), space.bytes < u64::MAX);
        Space::measure(&dir.path().join("nowhere")).unwrap_err();
    }
}
