//! Empty directories to mount drafts on. They are used again and again: making and removing one for each step costs more than all else
//! that is done to keep it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::core::make_dir;

/// Those of one store.
#[derive(Debug)]
pub(super) struct MountPoints {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers that nobody uses.
    free: Vec<u32>,
    /// Smaller numbers are in use, or free.
    next: u32,
}

/// One in use, by whoever has this.
#[derive(Debug)]
pub(super) struct MountPoint {
    number: u32,
    path: PathBuf,
    all: Arc<MountPoints>,
}

/// Whether this is the name of one.
pub(super) fn is_mount_point(name: &str) -> bool {
    // Short names of layers, beside which they are, have no capitals.
    name.strip_prefix('D')
        .is_some_and(|number| number.parse::<u32>().is_ok())
}

impl MountPoints {
    /// In the directory `dir`.
    pub(super) fn new(dir: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            dir,
            state: Mutex::default(),
        })
    }

    /// One that nobody else uses.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn take(self: &Arc<Self>) -> Result<MountPoint, StoreError> {
        let number = {
            let mut state = self.state();
            state.free.pop().unwrap_or_else(|| {
                state.next += 1;
                state.next - 1
            })
        };
        let taken = MountPoint {
            number,
            path: self.dir.join(format!("D{number}")),
            all: self.clone(),
        };
        make_dir(&taken.path)?;
        Ok(taken)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MountPoint {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        self.all.state().free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_one_and_all_are_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let points = MountPoints::new(dir.path().to_owned());
        for _ in 0..3 {
            let taken = [(); 3].map(|()| points.take().unwrap());
            let mut paths = taken.each_ref().map(|point| point.path().to_owned());
            paths.sort();
            assert_eq!(paths, ["D0", "D1", "D2"].map(|name| dir.path().join(name)));
        }
        assert!(is_mount_point("D12"));
        assert!(!is_mount_point("d1") && !is_mount_point("D") && !is_mount_point("Dx"));
    }
}
