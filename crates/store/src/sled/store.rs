//! The store itself: opening and verifying, batches, queries.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    Change, Client, Hint, JobId, JobRecord, KnownWorker, Rate, Snapshot, Store, StoreError,
};

use super::place::Place;
use super::rows::{
    BadValue, CLIENT, ENDED_JOB, HINT, HINT_DAY, INDEX, Key, KeyParts, META, Meta, OPEN_JOB, RATE,
    WORKER, job_key, mark, read_value, value,
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
        let marker = place.marker()?;
        let has_data = place.has_data()?;
        if marker.is_some() && !has_data {
            return Err(StoreError::Missing {
                dir: dir.to_owned(),
            });
        }
        let opened = guarded(|| {
            let db = sled::Config::new()
                .path(place.data())
                .cache_capacity(options.cache_bytes)
                .flush_every_ms(None)
                .open()
                .map_err(|error| open_error(&place, error))?;
            let meta = read_meta(&place, &db)?;
            Ok((db, meta))
        });
        let (db, meta) = opened.unwrap_or_else(|panic| Err(place.damaged(panic)))?;
        let expected = marker.map_or(0, |marker| marker.batch);
        let meta = match meta {
            Some(meta) if meta.batch < expected => {
                let (is, was) = (meta.batch, expected);
                return Err(place.damaged(format!(
                    "its last changes are missing (it ends at change {is}, and there were at least {was})"
                )));
            }
            Some(meta) => meta,
            None if expected > 0 => {
                return Err(place.damaged("its data files are there, but empty"));
            }
            None => begin(&db).map_err(|error| open_error(&place, error))?,
        };
        place.mark(meta.batch)?;
        Ok(Self {
            db,
            meta: Mutex::new(meta),
            stopped: Mutex::new(None),
            place,
        })
    }

    fn meta(&self) -> MutexGuard<'_, Meta> {
        // The value is replaced whole, after the batch it describes.
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> MutexGuard<'_, Option<String>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, error: sled::Error) -> StoreError {
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

    fn read<T: DeserializeOwned>(&self, bytes: &[u8], what: &str) -> Result<T, StoreError> {
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
            changed: BTreeMap::new(),
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
            let mut rows = Rows {
                store: self,
                changed: some.iter().map(|key| (key.to_vec(), None)).collect(),
                meta: meta.clone(),
            };
            rows.meta.batch += 1;
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

/// The texts a key is made of.
fn names<const N: usize>(key: &[u8]) -> Option<[String; N]> {
    let mut parts = KeyParts::of(key)?;
    let mut names = [const { String::new() }; N];
    for name in &mut names {
        *name = parts.text()?;
    }
    parts.end()?;
    Some(names)
}

/// Turns a panic of sled, which damaged files can cause, into a sentence.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        format!("sled gave up on it ({said})")
    })
}

fn open_error(place: &Place, error: sled::Error) -> StoreError {
    use std::io::ErrorKind;
    match error {
        sled::Error::Io(io)
            if matches!(
                io.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::StorageFull
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::WouldBlock
            ) =>
        {
            StoreError::io(format!("open {}", place.data().display()), io)
        }
        other => place.damaged(format!("sled cannot open it ({other})")),
    }
}

/// Reads what the store says about its rows and holds the rows against it. `None`: there is nothing yet.
fn read_meta(place: &Place, db: &sled::Db) -> Result<Option<Meta>, StoreError> {
    let open_error = |error| open_error(place, error);
    let Some(bytes) = db.get([META]).map_err(open_error)? else {
        let foreign = db.iter().next().is_some() || db.tree_names().len() > 1;
        return if foreign {
            Err(place.foreign("its data was written by another program"))
        } else {
            Ok(None)
        };
    };
    let meta: Meta = read_value(&bytes).map_err(|bad| match bad {
        BadValue::Newer(found) => place.newer(found),
        BadValue::Damaged => place.damaged("its first row cannot be read"),
    })?;
    let (mut rows, mut digest) = (0u64, 0u64);
    for kind in INDEX {
        for row in db.scan_prefix([kind]) {
            let (key, value) = row.map_err(open_error)?;
            rows += 1;
            digest = digest.wrapping_add(mark(&key, &value));
        }
    }
    if rows != meta.rows {
        let expected = meta.rows;
        return Err(place.damaged(format!("it has {rows} rows, and should have {expected}")));
    }
    if digest != meta.digest {
        return Err(place.damaged("some of its rows were altered"));
    }
    Ok(Some(meta))
}

/// Writes the first row of a new store.
fn begin(db: &sled::Db) -> Result<Meta, sled::Error> {
    let meta = Meta {
        batch: 1,
        next_job_id: JobId::default().get(),
        ..Meta::default()
    };
    let bytes = value(&meta).map_err(|error| sled::Error::Unsupported(error.to_string()))?;
    db.insert([META], bytes)?;
    db.flush()?;
    Ok(meta)
}

/// A batch being made: the rows as they will be.
struct Rows<'a> {
    store: &'a SledStore,
    /// `None` drops the row.
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    meta: Meta,
}

impl Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(changed) = self.changed.get(key) {
            return Ok(changed.clone());
        }
        let found = self
            .store
            .db
            .get(key)
            .map_err(|error| self.store.io(error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// All rows whose keys begin so.
    fn beginning(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut rows = BTreeMap::new();
        for row in self.store.db.scan_prefix(prefix) {
            let (key, value) = row.map_err(|error| self.store.io(error))?;
            rows.insert(key.to_vec(), value.to_vec());
        }
        let changed = self.changed.range(prefix.to_vec()..);
        for (key, value) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows)
    }

    /// Sets or drops a row, and keeps count and digest. Gives the row as it was.
    fn set(&mut self, key: Vec<u8>, new: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, StoreError> {
        let old = self.get(&key)?;
        if old == new {
            return Ok(old);
        }
        if key.first().is_some_and(|kind| INDEX.contains(kind)) {
            if let Some(old) = &old {
                self.meta.rows -= 1;
                self.meta.digest = self.meta.digest.wrapping_sub(mark(&key, old));
            }
            if let Some(new) = &new {
                self.meta.rows += 1;
                self.meta.digest = self.meta.digest.wrapping_add(mark(&key, new));
            }
        }
        self.changed.insert(key, new);
        Ok(old)
    }

    fn put<T: Serialize>(
        &mut self,
        key: Vec<u8>,
        content: &T,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = value(content).map_err(|error| StoreError::io("encode a row", error))?;
        self.set(key, Some(bytes))
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::WorkerKnown { pool, name, paused } => {
                self.put(Key::new(WORKER).text(pool).text(name).done(), paused)?;
            }
            Change::WorkerForgotten { pool, name } => {
                self.set(Key::new(WORKER).text(pool).text(name).done(), None)?;
            }
            Change::HintCached {
                pool,
                hint,
                worker,
                day,
            } => self.set_hint(
                Key::new(HINT).text(pool).text(hint).text(worker),
                Some(*day),
            )?,
            Change::HintDropped { pool, hint, worker } => {
                self.set_hint(Key::new(HINT).text(pool).text(hint).text(worker), None)?;
            }
            Change::HintsDroppedBefore { day } => self.drop_hints_before(*day)?,
            Change::RateSet { pool, client, rate } => {
                self.put(Key::new(RATE).text(pool).text(client).done(), rate)?;
            }
            Change::RateDropped { pool, client } => {
                self.set(Key::new(RATE).text(pool).text(client).done(), None)?;
            }
            Change::ClientAdded {
                hash,
                client,
                created_day,
            } => {
                self.put(Key::new(CLIENT).raw(hash).done(), &(client, created_day))?;
            }
            Change::ClientRemoved { client } => self.remove_client(client)?,
            Change::JobRecorded(record) => {
                let open = job_key(OPEN_JOB, record.id);
                let ended = job_key(ENDED_JOB, record.id);
                let (here, gone) = if record.state.is_ended() {
                    (ended, open)
                } else {
                    (open, ended)
                };
                self.set(gone, None)?;
                self.put(here, record)?;
            }
            Change::JobDropped { id } => {
                self.set(job_key(OPEN_JOB, *id), None)?;
                self.set(job_key(ENDED_JOB, *id), None)?;
            }
            Change::JobIdsReserved { next } => {
                self.meta.next_job_id = self.meta.next_job_id.max(*next);
            }
        }
        Ok(())
    }

    fn set_hint(&mut self, key: Key, day: Option<u32>) -> Result<(), StoreError> {
        let key = key.done();
        let by_day = |day: u32, key: &[u8]| {
            let names = key.split_first().map_or(&[][..], |(_, names)| names);
            Key::new(HINT_DAY).day(day).raw(names).done()
        };
        let old = match day {
            Some(day) => self.put(key.clone(), &day)?,
            None => self.set(key.clone(), None)?,
        };
        let old = match old {
            Some(bytes) => Some(self.store.read::<u32>(&bytes, "a hint")?),
            None => None,
        };
        if old == day {
            return Ok(());
        }
        if let Some(old) = old {
            self.set(by_day(old, &key), None)?;
        }
        if let Some(day) = day {
            self.put(by_day(day, &key), &())?;
        }
        Ok(())
    }

    fn drop_hints_before(&mut self, day: u32) -> Result<(), StoreError> {
        let first = vec![HINT_DAY];
        let end = Key::new(HINT_DAY).day(day).done();
        let mut doomed = Vec::new();
        for key in self.store.db.range(first.clone()..end.clone()).keys() {
            doomed.push(key.map_err(|error| self.store.io(error))?.to_vec());
        }
        doomed.extend(self.changed.range(first..end).map(|(key, _)| key.clone()));
        for key in doomed {
            // A row that was dropped or moved to a later day in this very batch is no longer there.
            if self.set(key.clone(), None)?.is_none() {
                continue;
            }
            let names = KeyParts::of(&key).and_then(|mut parts| parts.day().map(|_| parts.rest()));
            if let Some(names) = names {
                self.set(Key::new(HINT).raw(names).done(), None)?;
            }
        }
        Ok(())
    }

    fn remove_client(&mut self, client: &str) -> Result<(), StoreError> {
        for (key, value) in self.beginning(&[CLIENT])? {
            let (name, _): (String, u32) = self.store.read(&value, "a client")?;
            if name == client {
                self.set(key, None)?;
            }
        }
        for key in self.beginning(&[RATE])?.into_keys() {
            let named: Option<[String; 2]> = names(&key);
            if named.is_some_and(|[_, name]| name == client) {
                self.set(key, None)?;
            }
        }
        Ok(())
    }

    /// Writes and flushes the batch, unless it changes nothing. Gives the rows' new description.
    fn write(mut self, before: &Meta) -> Result<Meta, StoreError> {
        if self.changed.is_empty() && self.meta == *before {
            return Ok(self.meta);
        }
        self.meta.batch = before.batch + 1;
        let mut batch = sled::Batch::default();
        for (key, value) in self.changed {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let meta = value(&self.meta).map_err(|error| StoreError::io("encode a row", error))?;
        batch.insert(&[META], meta);
        let db = &self.store.db;
        db.apply_batch(batch)
            .map_err(|error| self.store.io(error))?;
        db.flush().map_err(|error| self.store.io(error))?;
        Ok(self.meta)
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
                found.workers.push(KnownWorker { pool, name, paused });
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
