//! The store itself: batches, questions, and the rule that nothing is written after an error.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;

use crate::{Change, JobId, JobMatch, JobPage, JobRecord, Snapshot, Store, StoreError};

use super::batch::Rows;
use super::index::{self, OpenJobs};
use super::opening::{self, Opened, guarded};
use super::place::{self, Place};
use super::rows::{DESCRIPTION, ENDED_JOB, Meta, OPEN_JOB, client_key, id_of, job_key};
use super::search::newest_first;
use super::values::{read_description, read_record, read_value};

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
    /// What was read when the store was opened, for whoever loads first. Gone with the first change.
    fresh: Mutex<Option<Snapshot>>,
    /// The first error from which there is no way back without a restart.
    stopped: Mutex<Option<StoreError>>,
    /// Sled is writing, or has failed while it did: it may hang at the next call, and when it is dropped.
    touched: AtomicBool,
    place: Arc<Place>,
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
        let Opened { db, meta, settings } = opening::open(&place, options)?;
        let fresh = Snapshot {
            next_job_id: JobId::new(meta.next_job_id),
            ..settings
        };
        Ok(Self {
            db,
            meta: Mutex::new(meta),
            fresh: Mutex::new(Some(fresh)),
            stopped: Mutex::new(None),
            touched: AtomicBool::new(false),
            place: Arc::new(place),
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

    fn fresh(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn db(&self) -> &sled::Db {
        &self.db
    }

    pub(super) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Lets sled write. If it fails or panics, it is not called again, not even to be dropped.
    pub(super) fn touching<T>(
        &self,
        write: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        self.touched.store(true, Ordering::SeqCst);
        let done = write(&self.db).map_err(|error| self.io(error))?;
        self.touched.store(false, Ordering::SeqCst);
        Ok(done)
    }

    /// Makes this store's last change one behind those of `old`, so that it can take its place.
    pub(crate) fn continue_from(&self, old: &Self) -> Result<(), StoreError> {
        let before = old.meta().batch;
        self.run(true, || {
            let mut meta = self.meta();
            let mut after = meta.clone();
            after.batch = after.batch.max(before) + 1;
            self.touching(|db| opening::write_meta(db, &after))?;
            *meta = after;
            Ok(())
        })
    }

    pub(super) fn io(&self, error: sled::Error) -> StoreError {
        let what = || format!("use the store in {}", self.place.dir.display());
        match error {
            sled::Error::Corruption { .. } => self.place.damaged("a page cannot be read"),
            sled::Error::Io(error) => StoreError::io(what(), &error),
            other => StoreError::other(what(), other),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        what: &str,
    ) -> Result<T, StoreError> {
        read_value(bytes).map_err(|bad| self.place.bad(bad, what))
    }

    pub(super) fn record(&self, bytes: &[u8]) -> Result<JobRecord, StoreError> {
        read_record(bytes).map_err(|bad| self.place.bad(bad, "a job's record"))
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.db.get(key).map_err(|error| self.io(error))
    }

    /// Whether sled failed while it was writing. (While it writes, the store has not been stopped yet.)
    fn is_hurt(&self) -> bool {
        self.touched.load(Ordering::SeqCst) && self.stopped().is_some()
    }

    /// Runs a piece of work on sled; an error or a panic of it stops the store for good if `writes`.
    fn run<T>(
        &self,
        writes: bool,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if writes || self.is_hurt() {
            self.health()?;
        }
        let result = guarded(work).unwrap_or_else(|panic| Err(self.place.damaged(panic)));
        if let (true, Err(error)) = (writes, &result) {
            let mut stopped = self.stopped();
            if stopped.is_none() {
                *stopped = Some(error.stopped());
            }
        }
        result
    }

    fn find(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        for kind in [OPEN_JOB, ENDED_JOB] {
            if let Some(value) = self.get(&job_key(kind, id))? {
                return self.record(&value).map(Some);
            }
        }
        Ok(None)
    }

    fn write(&self, batch: &[Change]) -> Result<(), StoreError> {
        self.change(|rows| batch.iter().try_for_each(|change| rows.apply(change)))
    }

    /// Makes and writes one batch.
    fn change(
        &self,
        make: impl FnOnce(&mut Rows<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        *self.fresh() = None;
        let mut meta = self.meta();
        let mut rows = Rows {
            store: self,
            changed: BTreeMap::default(),
            meta: meta.clone(),
        };
        make(&mut rows)?;
        let after = rows.write(&meta)?;
        *meta = after;
        Ok(())
    }

    fn drop_jobs(&self, ids: &[JobId]) -> Result<(), StoreError> {
        ids.chunks(PRUNE_BATCH).try_for_each(|some| {
            self.change(|rows| some.iter().try_for_each(|id| rows.drop_job(*id)))
        })
    }

    fn prune(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        let mut old = Vec::new();
        for row in self.db.scan_prefix([ENDED_JOB]) {
            let (_, value) = row.map_err(|error| self.io(error))?;
            // One that cannot be read has no age, and goes by its number.
            let Ok(record) = read_record(&value) else {
                continue;
            };
            // Nothing that was submitted later can have ended before.
            if record.times.queued >= ended_before_ms {
                break;
            }
            if record
                .times
                .ended
                .is_some_and(|ended| ended < ended_before_ms)
            {
                old.push(record.id);
            }
        }
        self.drop_jobs(&old)?;
        let mut surplus = Vec::new();
        for key in self.db.scan_prefix([ENDED_JOB]).keys().rev().skip(keep) {
            surplus.extend(id_of(&key.map_err(|error| self.io(error))?));
        }
        self.drop_jobs(&surplus)?;
        Ok((old.len() + surplus.len()) as u64)
    }
}

impl Store for SledStore {
    fn load(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        self.run(false, || {
            let meta = self.meta().clone();
            let given = OpenJobs::Given;
            let mut found =
                index::read(&self.place, &self.db, &meta, given, &|error| self.io(error))?;
            found.hints.retain(|hint| hint.day >= min_day);
            found.sort();
            Ok(found)
        })
    }

    fn load_without_jobs(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        self.run(false, || {
            // The lock is not held while the disk is read.
            let fresh = self.fresh().take();
            let mut found = match fresh {
                Some(fresh) => fresh,
                None => index::read_settings(&self.place, &self.db, &|error| self.io(error))?,
            };
            found.next_job_id = JobId::new(self.meta().next_job_id);
            found.hints.retain(|hint| hint.day >= min_day);
            found.sort();
            Ok(found)
        })
    }

    fn open_jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        self.run(false, || {
            let from = match after {
                Some(after) => Bound::Excluded(job_key(OPEN_JOB, after)),
                None => Bound::Included(vec![OPEN_JOB]),
            };
            let rows = (from, Bound::Excluded(vec![OPEN_JOB + 1]));
            // A piece of a good size is made in memory that was used before.
            let mut records = Vec::with_capacity(limit.min(1024));
            for row in self.db.range(rows).take(limit) {
                let (_, value) = row.map_err(|error| self.io(error))?;
                let record = read_record(&value);
                records.push(record.map_err(|bad| self.place.bad(bad, "a job's record"))?);
            }
            Ok(records)
        })
    }

    fn apply(&self, batch: &[Change]) -> Result<(), StoreError> {
        self.run(true, || self.write(batch))
    }

    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.run(false, || self.find(id))
    }

    fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(false, || {
            let key = job_key(DESCRIPTION, id);
            let Some(bytes) = self.get(&key)? else {
                return Ok(None);
            };
            let sealed = read_description(&key, &bytes).map_err(|bad| {
                self.place.bad(
                    bad,
                    &format!("the description of job {id}, and nothing else,"),
                )
            })?;
            Ok(Some(sealed.to_vec()))
        })
    }

    fn job_by_key(&self, client: &str, key: &str) -> Result<Option<JobRecord>, StoreError> {
        self.run(false, || {
            let Some(row) = self.get(&client_key(client, key))? else {
                return Ok(None);
            };
            let found = self.find(self.read(&row, "a client's key")?)?;
            // A key that was left behind by a record which could not be read may name another job by now.
            Ok(found.filter(|job| job.client == client && job.key.as_deref() == Some(key)))
        })
    }

    fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        self.run(false, || {
            let all = JobMatch::default();
            let Some(range) = all.range(before) else {
                return Ok(Vec::new());
            };
            newest_first(self, true, true, range).take(limit).collect()
        })
    }

    fn jobs_matching(
        &self,
        filter: &JobMatch,
        before: Option<JobId>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, StoreError> {
        self.run(false, || {
            let Some(range) = filter.range(before) else {
                return Ok(JobPage::default());
            };
            let (open, ended) = (filter.wants(false), filter.wants(true));
            filter.page(newest_first(self, open, ended, range), limit, scan)
        })
    }

    fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        self.run(true, || self.prune(keep, ended_before_ms))
    }

    fn health(&self) -> Result<(), StoreError> {
        match &*self.stopped() {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }
}

/// Notes how far the store got, so that a later start can tell if its end is missing.
impl Drop for SledStore {
    fn drop(&mut self) {
        if self.is_hurt() {
            // Dropping sled would flush, which can hang on a full disk. Until this process ends, its files and the lock
            // stay taken: nobody else may write to them meanwhile.
            Box::leak(Box::new((self.db.clone(), Arc::clone(&self.place))));
            return;
        }
        if self.health().is_err() {
            return;
        }
        let batch = self.meta().batch;
        if let Err(error) = self.place.mark(batch) {
            tracing::warn!(%error, "the store's marker stays as it was at the start");
        }
    }
}
