//! Layers under way: each is downloaded once, whoever wants it at the same time, and only a few at once.
//!
//! A download lives as long as somebody waits for it. Its file has a name only until all who waited have opened it: what is unpacked is
//! in the store, and nothing else is kept.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Digest;
use super::download::Job;
use super::progress::{State, follow};
use super::trouble::Trouble;
use crate::StepLog;

/// The layers under way.
#[derive(Debug)]
pub(super) struct Downloads {
    under_way: Mutex<HashMap<Digest, Entry>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Entry {
    shared: Weak<Shared>,
    task: JoinHandle<()>,
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
    /// At most `at_once` at once.
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            under_way: Mutex::default(),
            permits: Arc::new(Semaphore::new(at_once.max(1))),
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
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, entry| !entry.task.is_finished() || entry.shared.strong_count() > 0);
        let before = under_way.remove(&job.digest);
        if let Some(entry) = &before
            && !is_new
            && let Some(shared) = entry.shared.upgrade()
            && !matches!(shared.state.borrow().outcome, Some(Err(_)))
        {
            under_way.extend(before.map(|entry| (job.digest, entry)));
            return (shared, false);
        }
        let (sender, state) = watch::channel(State::default());
        let cancel = CancellationToken::new();
        let shared = Arc::new(Shared {
            state,
            whole: job.whole(),
            _stop: cancel.clone().drop_guard(),
        });
        let permits = Arc::clone(&self.permits);
        let (job, digest) = (job.clone(), job.digest);
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
            sender.send_modify(|state| state.outcome = Some(outcome));
        });
        let entry = Entry {
            shared: Arc::downgrade(&shared),
            task,
        };
        under_way.insert(digest, entry);
        (shared, true)
    }
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
