//! A worker on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ocluster_vat::SturdyRef;
use ocluster_worker::Config;
use ocluster_worker::executor::Executors;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::steered::{KIND, Wheel};

/// A worker of two slots for steered and test jobs; it is stopped when dropped.
pub struct Worker {
    pub wheel: Wheel,
    state: Arc<TempDir>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start(cap: &SturdyRef) -> Self {
        Self::start_with(cap, |config| config)
    }

    /// One that goes on with its jobs for so long.
    pub fn start_with_grace(cap: &SturdyRef, grace: Duration) -> Self {
        Self::start_with(cap, move |config| Config {
            reconnect_grace: grace,
            ..config
        })
    }

    pub fn start_with(
        cap: &SturdyRef,
        change: impl FnOnce(Config) -> Config + Send + 'static,
    ) -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), cap, change)
    }

    fn start_in(
        state: Arc<TempDir>,
        cap: &SturdyRef,
        change: impl FnOnce(Config) -> Config + Send + 'static,
    ) -> Self {
        let (wheel, stop) = (Wheel::new(), CancellationToken::new());
        let config = Config {
            capacity: 2,
            executors: Executors {
                test_kind: true,
                ..Executors::default()
            }
            .offering(KIND, wheel.clone()),
            ..Config::new(cap.clone(), "w", state.path())
        };
        let shutdown = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let run = ocluster_worker::run(change(config), shutdown);
            tokio::task::LocalSet::new()
                .block_on(&runtime, run)
                .unwrap();
        });
        Self {
            wheel,
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// Tells it to stop, and does not wait.
    pub fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped, and starts it again.
    pub fn restart(mut self, cap: &SturdyRef) -> Self {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
        Self::start_in(self.state.clone(), cap, |config| config)
    }

    /// Waits until it has stopped by itself, or was told to.
    pub async fn stopped(&mut self) {
        let thread = self.thread.take().unwrap();
        let joined = tokio::task::spawn_blocking(move || thread.join());
        joined.await.unwrap().unwrap();
    }

    /// How many logs it has on its disk.
    pub fn spooled(&self) -> usize {
        files(&self.state.path().join("spool")).len()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// All files below a directory. What goes while it is looked at is not there.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                dirs.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}
