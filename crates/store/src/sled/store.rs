//! The store itself: batches, questions, and the rule that nothing is written after an error.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;

use crate::{
    Change, Client, Hint, JobId, JobRecord, KnownWorker, Rate, Snapshot, Store, StoreError,
};

use super::batch::Rows;
use super::opening::{self, guarded};
use super::place::{self, Place};
use super::rows::{
    BadValue, CLIENT, ENDED_JOB, HINT, Meta, OPEN_JOB, RATE, WORKER, job_key, names, read_value,
};

/// Records dropped in one batch while pruning.
const PRUNE_BATCH: usize = 1024;

/// How sled is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Bytes of memory for sled's cache of pages. 32 MiB by default. Sled's own default is a gigabyte.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
        }
    }
}

/// A [`Store`] in a directory, on sled.
///
/// Every call, `open` and dropping included, waits for the disk: keep it on a thread of its own, which is what
/// [`Writer`](crate::Writer) is for.
#[derive(Debug)]
pub struct SledStore {
    // Dropped in this order: sled's files are closed before the lock is freed.
    db: sled::Db,
    /// What the rows look like now. Its lock also keeps batches one after the other.
    meta: Mutex<Meta>,
    /// The first error from which there is no way back without a restart.
    stopped: Mutex<Option<String>>,
    place: Place,
}

impl SledStore {
    /// Opens the store in the state directory `dir`, or makes one if there never was any.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it; [`StoreError::Missing`] when there was a store and its data
    /// is gone; [`StoreError::Newer`], [`StoreError::Foreign`], [`StoreError::Damaged`] when what is there cannot be
    /// trusted; [`StoreError::Io`]. Each says what to do. A refused store is left as it is found, except for what sled
    /// itself tidies when it opens a file.
    pub fn open(dir: &Path, options: SledOptions) -> Result<Self, StoreError> {
        let place = Place::take(dir)?;
        let (db, meta) = opening::open(&place, options)?;
        place.mark(meta.batch)?;
        Ok(Self {
            db,
            meta: Mutex::new(meta),
            stopped: Mutex::new(None),
            place,
        })
    }

    /// Whether there is, or was, a store in the state directory `dir`. Looks without touching anything, and says nothing about
    /// whether [`open`](Self::open) will succeed.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        place::exists(dir)
    }

    fn meta(&self) -> MutexGuard<'_, Meta> {
        // The value is replaced whole, after the batch it describes.
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> MutexGuard<'_, Option<String>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn db(&self) -> &sled::Db {
        &self.db
    }

    pub(super) fn io(&self, error: sled::Error) -> StoreError {
        match error {
            sled::Error::Corruption { .. } => self.place.damaged("a page cannot be read"),
            other => StoreError::io(
                format!("use the store in {}", self.place.dir.display()),
                other,
            ),
        }
    }

    fn bad(&self, bad: BadValue, what: &str) -> StoreError {
        match bad {
            BadValue::Newer(found) => self.place.newer(found),
            BadValue::Damaged => self.place.damaged(format!("{what} cannot be read")),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        what: &str,
    ) -> Result<T, StoreError> {
        read_value(bytes).map_err(|bad| self.bad(bad, what))
    }

    /// Runs a piece of work on sled; an error or a panic of it stops the store for good if `writes`.
    fn run<T>(
        &self,
        writes: bool,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if writes {
            self.health()?;
        }
        let result = guarded(work).unwrap_or_else(|panic| Err(self.place.damaged(panic)));
        if let (true, Err(error)) = (writes, &result) {
            let mut stopped = self.stopped();
            if stopped.is_none() {
                *stopped = Some(error.to_string());
            }
        }
        result
    }

    /// Calls `each` with every row of a kind, in order.
    fn each(
        &self,
        kind: u8,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for row in self.db.scan_prefix([kind]) {
            let (key, value) = row.map_err(|error| self.io(error))?;
            each(&key, &value)?;
        }
        Ok(())
    }

    /// As [`each`](Self::each), for rows whose key is made of texts.
    fn each_named<const N: usize, T: DeserializeOwned>(
        &self,
        kind: u8,
        what: &str,
        mut each: impl FnMut([String; N], T),
    ) -> Result<(), StoreError> {
        self.each(kind, |key, value| {
            let names = names(key).ok_or_else(|| self.bad(BadValue::Damaged, what))?;
            each(names, self.read(value, what)?);
            Ok(())
        })
    }

    fn write(&self, batch: &[Change]) -> Result<(), StoreError> {
        let mut meta = self.meta();
        let mut rows = Rows {
            store: self,
            changed: BTreeMap::default(),
            meta: meta.clone(),
        };
        for change in batch {
            rows.apply(change)?;
        }
        let after = rows.write(&meta)?;
        *meta = after;
        Ok(())
    }

    fn drop_rows(&self, keys: &[sled::IVec]) -> Result<(), StoreError> {
        let mut meta = self.meta();
        for some in keys.chunks(PRUNE_BATCH) {
            let rows = Rows {
                store: self,
                changed: some.iter().map(|key| (key.to_vec(), None)).collect(),
                meta: meta.clone(),
            };
            let after = rows.write(&meta)?;
            *meta = after;
        }
        Ok(())
    }

    fn prune(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        let mut old = Vec::new();
        for row in self.db.scan_prefix([ENDED_JOB]) {
            let (key, value) = row.map_err(|error| self.io(error))?;
            let record: JobRecord = self.read(&value, "a job's record")?;
            // Nothing that was submitted later can have ended before.
            if record.times.queued >= ended_before_ms {
                break;
            }
            if record
                .times
                .ended
                .is_some_and(|ended| ended < ended_before_ms)
            {
                old.push(key);
            }
        }
        self.drop_rows(&old)?;
        let surplus: Vec<sled::IVec> = self
            .db
            .scan_prefix([ENDED_JOB])
            .keys()
            .rev()
            .skip(keep)
            .collect::<Result<_, _>>()
            .map_err(|error| self.io(error))?;
        self.drop_rows(&surplus)?;
        Ok((old.len() + surplus.len()) as u64)
    }
}

impl Store for SledStore {
    fn load(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        self.run(false, || {
            let mut found = Snapshot {
                next_job_id: JobId::new(self.meta().next_job_id),
                ..Snapshot::default()
            };
            self.each_named(WORKER, "a worker", |[pool, name], paused| {
                found.workers.push(KnownWorker {
                    pool,
                    name,
                    paused,
                    pause: None,
                });
            })?;
            self.each_named(HINT, "a hint", |[pool, hint, worker], day| {
                if day >= min_day {
                    found.hints.push(Hint {
                        pool,
                        hint,
                        worker,
                        day,
                    });
                }
            })?;
            self.each_named(RATE, "a rate", |[pool, client], rate| {
                found.rates.push(Rate { pool, client, rate });
            })?;
            self.each(CLIENT, |key, value| {
                let hash = key
                    .split_first()
                    .and_then(|(_, hash)| <[u8; 32]>::try_from(hash).ok())
                    .ok_or_else(|| self.bad(BadValue::Damaged, "a client"))?;
                let (client, created_day) = self.read(value, "a client")?;
                found.clients.push(Client {
                    client,
                    hash,
                    created_day,
                });
                Ok(())
            })?;
            self.each(OPEN_JOB, |_, value| {
                found.open_jobs.push(self.read(value, "a job's record")?);
                Ok(())
            })?;
            found.sort();
            Ok(found)
        })
    }

    fn apply(&self, batch: &[Change]) -> Result<(), StoreError> {
        self.run(true, || self.write(batch))
    }

    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.run(false, || {
            for kind in [OPEN_JOB, ENDED_JOB] {
                let found = self
                    .db
                    .get(job_key(kind, id))
                    .map_err(|error| self.io(error))?;
                if let Some(value) = found {
                    return self.read(&value, "a job's record").map(Some);
                }
            }
            Ok(None)
        })
    }

    fn description(&self, _: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn job_by_key(&self, _: &str, _: &str) -> Result<Option<JobRecord>, StoreError> {
        Ok(None)
    }

    fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        self.run(false, || {
            let mut records: Vec<JobRecord> = Vec::new();
            for kind in [OPEN_JOB, ENDED_JOB] {
                let end = match before {
                    Some(before) => job_key(kind, before),
                    // One past every key of this kind.
                    None => vec![kind + 1],
                };
                for row in self.db.range(vec![kind]..end).rev().take(limit) {
                    let (_, value) = row.map_err(|error| self.io(error))?;
                    records.push(self.read(&value, "a job's record")?);
                }
            }
            records.sort_by_key(|record| std::cmp::Reverse(record.id));
            records.truncate(limit);
            Ok(records)
        })
    }

    fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        self.run(true, || self.prune(keep, ended_before_ms))
    }

    fn health(&self) -> Result<(), StoreError> {
        match &*self.stopped() {
            None => Ok(()),
            Some(why) => Err(StoreError::Stopped { why: why.clone() }),
        }
    }
}

/// Notes how far the store got, so that a later start can tell if its end is missing.
impl Drop for SledStore {
    fn drop(&mut self) {
        if self.health().is_err() {
            return;
        }
        let batch = self.meta().batch;
        if let Err(error) = self.place.mark(batch) {
            tracing::warn!(%error, "the store's marker stays as it was at the start");
        }
    }
}
