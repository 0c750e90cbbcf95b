//! The store's own threads: one remembers what was used, and now and then brings new layers to the disk; the other removes what was
//! thrown away, which may take minutes. Nobody has to wait for any of that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::core::Core;
use super::meta::touch;
use super::{StoreError, format, layout, tree};
use crate::StepId;

/// How long new layers may be lost to a crash of the machine.
const SYNC: Duration = Duration::from_secs(30);

/// Sends work to the threads, which end with the last of its senders, when they have done everything.
#[derive(Clone, Debug)]
pub(super) struct Housekeeper {
    sender: Sender<Chore>,
    removals: Sender<Removal>,
}

/// A directory below `tmp/` that is to be removed, and who waits for that.
type Removal = (PathBuf, Option<oneshot::Sender<()>>);

enum Chore {
    /// A layer was used.
    Used(StepId, Timestamp),
    /// A layer was kept.
    Kept,
    /// Bring everything to the disk.
    Sync(oneshot::Sender<Result<(), StoreError>>),
}

impl Housekeeper {
    /// Starts the threads. What is answered, too, is the one that ends last. All layers with numbers below `synced` are on the disk.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(core: Arc<Core>, synced: u64) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, chores) = channel();
        let (removals, thrown_away) = channel();
        let remover = {
            let core = core.clone();
            std::thread::Builder::new()
                .name("obuilder-remove".into())
                .spawn(move || remove(&core, &thrown_away))?
        };
        let work = Work { core, synced };
        let thread = std::thread::Builder::new()
            .name("obuilder-store".into())
            .spawn(move || {
                work.run(&chores);
                if remover.join().is_err() {
                    tracing::error!("the thread that removes what is thrown away panicked");
                }
            })?;
        Ok((Self { sender, removals }, thread))
    }

    /// Has a directory below `tmp/` removed. The answer comes when it is.
    pub(super) fn remove(&self, path: PathBuf) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        self.send_removal((path, Some(done)));
        wait
    }

    /// As [`Housekeeper::remove`], for those who do not wait.
    pub(super) fn remove_later(&self, path: PathBuf) {
        self.send_removal((path, None));
    }

    /// Has it remembered when a layer was used.
    pub(super) fn used(&self, id: StepId, when: Timestamp) {
        self.send(Chore::Used(id, when));
    }

    /// Says that there is something new to be brought to the disk.
    pub(super) fn kept(&self) {
        self.send(Chore::Kept);
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        let (done, wait) = oneshot::channel();
        self.send(Chore::Sync(done));
        wait.await.unwrap_or_else(|_| {
            Err(StoreError::Refused(
                "the store's own thread is gone".to_owned(),
            ))
        })
    }

    fn send(&self, chore: Chore) {
        // The thread lives as long as there is somebody who can send.
        let _ = self.sender.send(chore);
    }

    fn send_removal(&self, removal: Removal) {
        // Likewise.
        let _ = self.removals.send(removal);
    }
}

fn remove(core: &Core, thrown_away: &Receiver<Removal>) {
    while let Ok((path, done)) = thrown_away.recv() {
        if let Err(error) = core.backend.remove(&path) {
            tracing::warn!(%error, "something thrown away stays until the store is opened again");
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

struct Work {
    core: Arc<Core>,
    /// All layers with smaller numbers are on the disk.
    synced: u64,
}

impl Work {
    fn run(mut self, chores: &Receiver<Chore>) {
        let mut due = self.is_dirty().then(|| Instant::now() + SYNC);
        loop {
            let chore = match due {
                None => chores.recv().map_err(RecvTimeoutError::from),
                Some(due) => chores.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match chore {
                Ok(Chore::Used(id, when)) => {
                    let meta = self.core.layout.layer(id).join(layout::META);
                    if let Err(error) = touch(&meta, when) {
                        tracing::debug!(layer = %id, %error, "a layer's use is not remembered");
                    }
                }
                Ok(Chore::Kept) => {
                    due = due.or_else(|| Some(Instant::now() + SYNC));
                    continue;
                }
                Ok(Chore::Sync(done)) => {
                    let result = self.sync();
                    if result.is_ok() {
                        due = None;
                    }
                    let _ = done.send(result);
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                due = None;
                if let Err(error) = self.sync() {
                    tracing::warn!(%error, "new layers may not survive a crash of the machine");
                    due = Some(Instant::now() + SYNC);
                }
            }
        }
    }

    fn is_dirty(&self) -> bool {
        self.core.index().settled_below() > self.synced
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let settled = self.core.index().settled_below();
        if settled <= self.synced {
            return Ok(());
        }
        let root = self.core.layout.root();
        tree::sync_filesystem(root).map_err(StoreError::io("sync", root))?;
        let path = self.core.layout.synced();
        format::replace(&path, format!("{settled}\n").as_bytes())
            .map_err(StoreError::io("write", &path))?;
        self.synced = settled;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::Rootfs;
    use crate::store::index::Index;
    use crate::store::layout::Layout;
    use crate::store::lock::Lock;
    use crate::store::{Backend, Space};

    /// Where a removal takes as long as the test wants.
    #[derive(Debug)]
    struct Slow(Mutex<Receiver<()>>);

    impl Backend for Slow {
        fn probe(&self, _: &Path) -> Result<(), StoreError> {
            unimplemented!()
        }

        fn create(&self, _: &[PathBuf], _: &Path, _: &Path) -> Result<Rootfs, StoreError> {
            unimplemented!()
        }

        fn seal(&self, _: &Path, _: Option<&Path>, _: &Path) -> Result<(), StoreError> {
            unimplemented!()
        }

        fn view(&self, _: &[PathBuf], _: &Path) -> Rootfs {
            unimplemented!()
        }

        fn remove(&self, _: &Path) -> Result<(), StoreError> {
            self.0.lock().unwrap().recv().unwrap();
            Ok(())
        }

        fn space(&self, _: &Path) -> Result<Space, StoreError> {
            unimplemented!()
        }
    }

    #[tokio::test]
    async fn a_long_removal_delays_no_sync() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let (finish, removal) = channel();
        let core = Arc::new(Core::new(
            Layout::new(root.to_owned()),
            Arc::new(Slow(Mutex::new(removal))),
            "this run".to_owned(),
            Index::starting_at(7),
            Lock::take(&root.join("lock"), root).unwrap(),
        ));
        let (housekeeper, thread) = Housekeeper::start(core, 0).unwrap();
        let removed = housekeeper.remove(root.join("large"));
        tokio::time::timeout(Duration::from_secs(60), housekeeper.sync())
            .await
            .expect("a sync waits for a removal")
            .unwrap();
        assert_eq!(std::fs::read_to_string(root.join("synced")).unwrap(), "7\n");
        finish.send(()).unwrap();
        removed.await.unwrap();
        drop(housekeeper);
        tokio::task::spawn_blocking(|| thread.join().unwrap())
            .await
            .unwrap();
    }
}
