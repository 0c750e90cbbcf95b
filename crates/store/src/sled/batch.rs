//! A batch in the making: changes become rows, and the index's count and digest are carried along.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Change, JobId, JobRecord, StoreError};

use super::rows::{
    CLIENT, DEBT, DESCRIPTION, ENDED_JOB, HINT, HINT_DAY, INDEX, Key, KeyParts, META, Meta,
    OPEN_JOB, RATE, WORKER, client_key, job_key, mark, names,
};
use super::store::SledStore;
use super::values::{description_value, read_record, read_value, value, worker_value};

fn encoding(error: postcard::Error) -> StoreError {
    StoreError::other("encode a row", error)
}

/// A batch being made: the rows as they will be.
pub(super) struct Rows<'a> {
    pub(super) store: &'a SledStore,
    /// `None` drops the row.
    pub(super) changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) meta: Meta,
}

impl Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(changed) = self.changed.get(key) {
            return Ok(changed.clone());
        }
        let found = self
            .store
            .db()
            .get(key)
            .map_err(|error| self.store.io(error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// All rows whose keys begin so.
    fn beginning(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut rows = BTreeMap::new();
        for row in self.store.db().scan_prefix(prefix) {
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
                self.meta.rows = self.meta.rows.wrapping_sub(1);
                self.meta.digest = self.meta.digest.wrapping_sub(mark(&key, old));
            }
            if let Some(new) = &new {
                self.meta.rows = self.meta.rows.wrapping_add(1);
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
        let bytes = value(content).map_err(encoding)?;
        self.set(key, Some(bytes))
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::WorkerKnown {
                pool,
                name,
                paused,
                pause,
            } => {
                let known = worker_value(*paused, pause.as_ref()).map_err(encoding)?;
                self.set(Key::new(WORKER).text(pool).text(name).done(), Some(known))?;
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
            Change::DebtSet {
                pool,
                client,
                next_fair_start,
            } => {
                let key = Key::new(DEBT).text(pool).text(client).done();
                self.put(key, next_fair_start)?;
            }
            Change::JobAccepted {
                record,
                description,
            } => {
                let key = job_key(DESCRIPTION, record.id);
                let sealed = description_value(&key, description);
                self.set(key, Some(sealed))?;
                self.set_record(record)?;
            }
            Change::JobRecorded(record) => self.set_record(record)?,
            Change::JobDropped { id } => self.drop_job(*id)?,
            Change::JobIdsReserved { next } => {
                self.meta.next_job_id = self.meta.next_job_id.max(*next);
            }
        }
        Ok(())
    }

    fn set_record(&mut self, record: &JobRecord) -> Result<(), StoreError> {
        let open = job_key(OPEN_JOB, record.id);
        let ended = job_key(ENDED_JOB, record.id);
        let (here, gone) = if record.state.is_ended() {
            self.set(job_key(DESCRIPTION, record.id), None)?;
            (ended, open)
        } else {
            (open, ended)
        };
        let old = [self.set(gone, None)?, self.put(here, record)?];
        for old in old.iter().flatten() {
            self.drop_client_key(old, Some(record))?;
        }
        if let Some(key) = &record.key {
            self.put(client_key(&record.client, key), &record.id)?;
        }
        Ok(())
    }

    /// Drops all there is of a job.
    pub(super) fn drop_job(&mut self, id: JobId) -> Result<(), StoreError> {
        self.set(job_key(DESCRIPTION, id), None)?;
        for kind in [OPEN_JOB, ENDED_JOB] {
            if let Some(old) = self.set(job_key(kind, id), None)? {
                self.drop_client_key(&old, None)?;
            }
        }
        Ok(())
    }

    /// Drops the row of the key that an old record had, unless the new one has it too. A record that cannot be read must
    /// not keep others from being written: its key is then left behind, where it does no harm.
    fn drop_client_key(&mut self, old: &[u8], new: Option<&JobRecord>) -> Result<(), StoreError> {
        let Ok(JobRecord {
            id,
            client,
            key: Some(key),
            ..
        }) = read_record(old)
        else {
            return Ok(());
        };
        if new.is_some_and(|new| new.key.as_ref() == Some(&key) && new.client == client) {
            return Ok(());
        }
        let row = client_key(&client, &key);
        let owner = self.get(&row)?;
        // The key may have passed to another job since.
        if owner.is_some_and(|owner| read_value(&owner) == Ok(id)) {
            self.set(row, None)?;
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
        for key in self.store.db().range(first.clone()..end.clone()).keys() {
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
        for kind in [RATE, DEBT] {
            for key in self.beginning(&[kind])?.into_keys() {
                let named: Option<[String; 2]> = names(&key);
                if named.is_some_and(|[_, name]| name == client) {
                    self.set(key, None)?;
                }
            }
        }
        Ok(())
    }

    /// Writes and flushes the batch, unless it changes nothing. Gives the rows' new description.
    pub(super) fn write(mut self, before: &Meta) -> Result<Meta, StoreError> {
        if self.changed.is_empty() && self.meta == *before {
            return Ok(self.meta);
        }
        self.meta.batch = before.batch + 1;
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for (key, value) in self.changed {
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let meta = value(&self.meta).map_err(encoding)?;
        batch.insert(&[META], meta);
        self.store.place().has_room(bytes)?;
        self.store.touching(|db| {
            db.apply_batch(batch)?;
            db.flush()
        })?;
        Ok(self.meta)
    }
}
