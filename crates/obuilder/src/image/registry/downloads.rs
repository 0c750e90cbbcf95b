//! Layers under way: each is downloaded once from one registry, whoever wants it at the same time, and only a few at once from one.
//! Registries know nothing of each other: a slow one holds up no download from another.
//!
//! A download lives as long as somebody waits for it. Its file has a name only until all who waited have opened it: what is unpacked is
//! in the store, and nothing else is kept.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use super::download::Job;
use super::progress::{State, follow};
use super::trouble::Trouble;
use super::{Digest, partial};
use crate::StepLog;

/// The layers under way.
#[derive(Debug)]
pub(super) struct Downloads {
    table: Arc<Mutex<Table>>,
    /// How many there may be at once from one registry.
    at_once: usize,
}

/// A layer, and the registry whose name the image has.
type Key = (String, Digest);

#[derive(Debug, Default)]
struct Table {
    under_way: HashMap<Key, Entry>,
    permits: HashMap<String, Weak<Semaphore>>,
}

#[derive(Debug)]
struct Entry {
    shared: Weak<Shared>,
    task: JoinHandle<()>,
    /// Which of the files for this digest is its own.
    place: usize,
}

/// A download, as those who wait for it hold it. The last to let go stops it, or removes the name of what it brought.
#[derive(Debug)]
struct Shared {
    state: watch::Receiver<State>,
    whole: PathBuf,
    _stop: DropGuard,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if matches!(self.state.borrow().outcome, Some(Ok(()))) {
            // A name that stays is found and used by the next download, or removed after a week.
            let _ = std::fs::remove_file(&self.whole);
        }
    }
}

impl Downloads {
    /// At most `at_once` at once from each registry.
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            table: Arc::default(),
            at_once: at_once.max(1),
        }
    }

    /// The whole layer, open at its start. Dropping this future stops the download, if nobody else waits for it.
    pub(super) async fn fetch(&self, job: &Job, log: &StepLog) -> Result<File, Trouble> {
        let (shared, is_ours) = self.join(job, false);
        match handed_over(shared, job, log).await {
            Err(trouble) if !is_ours && trouble.is_the_registrys() => {
                // It failed for somebody who asked others, or for another repository.
                let (shared, _) = self.join(job, true);
                handed_over(shared, job, log).await
            }
            result => result,
        }
    }

    /// The download of this layer that is under way, or a new one. Tells whether it is new.
    fn join(&self, job: &Job, is_new: bool) -> (Arc<Shared>, bool) {
        let mut table = lock(&self.table);
        table.forget();
        let key = (job.origin.clone(), job.digest);
        let before = table.under_way.remove(&key);
        if let Some(entry) = &before
            && !is_new
            && let Some(shared) = entry.shared.upgrade()
            && !matches!(shared.state.borrow().outcome, Some(Err(_)))
        {
            table.under_way.extend(before.map(|entry| (key, entry)));
            return (shared, false);
        }
        let place = match &before {
            Some(before) => before.place,
            None => table.free_place(job.digest),
        };
        let permits = table.permits(&job.origin, self.at_once);
        let job = Job {
            place,
            ..job.clone()
        };
        let (sender, state) = watch::channel(State::default());
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            state,
            whole: job.whole(),
            _stop: cancel.clone().drop_guard(),
        });
        let for_others = Arc::clone(&self.table);
        let task = tokio::spawn(async move {
            // Two never write to the same file.
            if let Some(before) = before {
                let _ = before.task.await;
            }
            let permit = cancel.run_until_cancelled(permits.acquire()).await;
            let outcome = match permit {
                Some(Ok(_permit)) => job.run(&sender, &cancel).await,
                _ => Err(Trouble::Cancelled),
            };
            let has_failed = outcome.is_err();
            sender.send_modify(|state| state.outcome = Some(outcome));
            if has_failed {
                let tidying = spawn_blocking(move || tidy_after(&job, &for_others));
                let _ = tidying.await;
            }
        });
        let entry = Entry {
            shared: Arc::downgrade(&shared),
            task,
            place,
        };
        table.under_way.insert(key, entry);
        (shared, true)
    }
}

impl Table {
    /// Forgets what is over.
    fn forget(&mut self) {
        self.under_way
            .retain(|_, entry| !entry.task.is_finished() || entry.shared.strong_count() > 0);
        self.permits.retain(|_, permits| permits.strong_count() > 0);
    }

    /// A file for this digest that no other registry's download writes to.
    fn free_place(&self, digest: Digest) -> usize {
        let is_free = |place: &usize| !self.is_used(digest, *place);
        // There are no more downloads than numbers.
        (0..).find(is_free).unwrap_or_default()
    }

    fn is_used(&self, digest: Digest, place: usize) -> bool {
        self.under_way
            .iter()
            .any(|((_, other), entry)| *other == digest && entry.place == place)
    }

    fn permits(&mut self, origin: &str, at_once: usize) -> Arc<Semaphore> {
        let known = self.permits.get(origin).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let permits = Arc::new(Semaphore::new(at_once));
            self.permits
                .insert(origin.to_owned(), Arc::downgrade(&permits));
            permits
        })
    }
}

/// Keeps what failed downloads leave within its bound. What others are writing to stays.
fn tidy_after(job: &Job, table: &Mutex<Table>) {
    let config = &job.transport.config;
    let own = (job.digest, job.place);
    let tidied = partial::tidy(
        &config.blobs,
        config.limits.partials,
        |digest, place, take| {
            // Whoever wants to begin with that file waits for this lock, which is held for one rename.
            let table = lock(table);
            if (digest, place) == own || !table.is_used(digest, place) {
                take();
            }
        },
    );
    if let Err(trouble) = tidied {
        warn!("cannot remove parts of layers: {}", trouble.why());
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // A table is whole after each of its operations, whoever panicked meanwhile.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a download, and opens what it brought.
async fn handed_over(shared: Arc<Shared>, job: &Job, log: &StepLog) -> Result<File, Trouble> {
    follow(shared.state.clone(), job.digest, job.size, log).await?;
    let opening = spawn_blocking(move || {
        let file = File::open(&shared.whole);
        file.map_err(|error| Trouble::disk("open", &shared.whole, &error))
    });
    opening.await.unwrap_or(Err(Trouble::Cancelled))
}
