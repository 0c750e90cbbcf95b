//! The index: the rows a start reads, verified and decoded in one pass.
//!
//! It must never give a row that the digest does not cover, nor leave one out.

use serde::de::DeserializeOwned;

use crate::{Client, Debt, Hint, JobId, KnownWorker, Rate, Snapshot, StoreError};

use super::opening::guarded;
use super::place::Place;
use super::rows::{
    CLIENT, DEBT, HINT, INDEX, Meta, OPEN_JOB, RATE, WORKER, id_of, job_key, mark, names,
};
use super::values::{BadValue, read_record, read_value, read_worker};

/// Fewer ids than this are not worth a thread.
const LEAST_IDS_PER_THREAD: u64 = 10_000;

/// A part of the index.
#[derive(Default)]
struct Part {
    found: Snapshot,
    rows: u64,
    digest: u64,
    /// Whether it lets go of the records of open jobs at once.
    forgets_jobs: bool,
    /// The first row that cannot be read. It is told of only if the digest does not show that rows were altered or lost.
    unreadable: Option<(BadValue, &'static str)>,
}

/// What becomes of the records of open jobs, of which there can be a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenJobs {
    /// They are given.
    Given,
    /// They are read and verified, and no more.
    Verified,
}

/// Reads every row of the index and holds count and digest against what `meta` says. Lists are not sorted yet.
pub(super) fn read(
    place: &Place,
    db: &sled::Db,
    meta: &Meta,
    jobs: OpenJobs,
    sled_error: &(dyn Fn(sled::Error) -> StoreError + Sync),
) -> Result<Snapshot, StoreError> {
    let mut all = Part::default();
    for kind in INDEX.into_iter().filter(|kind| *kind != OPEN_JOB) {
        all.read(db.scan_prefix([kind])).map_err(sled_error)?;
    }
    for part in read_open_jobs(place, db, jobs, sled_error)? {
        all.rows += part.rows;
        all.digest = all.digest.wrapping_add(part.digest);
        all.unreadable = all.unreadable.or(part.unreadable);
        if all.found.open_jobs.is_empty() {
            all.found.open_jobs = part.found.open_jobs;
        } else {
            all.found.open_jobs.extend(part.found.open_jobs);
        }
    }
    let (rows, expected) = (all.rows, meta.rows);
    if rows != expected {
        return Err(place.damaged(format!("it has {rows} rows, and should have {expected}")));
    }
    if all.digest != meta.digest {
        return Err(place.damaged("some of its rows were altered"));
    }
    match all.unreadable {
        Some((bad, what)) => Err(place.bad(bad, what)),
        None => Ok(Snapshot {
            next_job_id: JobId::new(meta.next_job_id),
            ..all.found
        }),
    }
}

/// Reads the index without open jobs, which the digest alone cannot vouch for then.
pub(super) fn read_settings(
    place: &Place,
    db: &sled::Db,
    sled_error: &dyn Fn(sled::Error) -> StoreError,
) -> Result<Snapshot, StoreError> {
    let mut all = Part::default();
    for kind in INDEX.into_iter().filter(|kind| *kind != OPEN_JOB) {
        all.read(db.scan_prefix([kind])).map_err(sled_error)?;
    }
    match all.unreadable {
        Some((bad, what)) => Err(place.bad(bad, what)),
        None => Ok(all.found),
    }
}

/// Reads the records of open jobs, of which there can be a million, on as many threads as there are processors. Parts
/// come in the order of ids.
fn read_open_jobs(
    place: &Place,
    db: &sled::Db,
    jobs: OpenJobs,
    sled_error: &(dyn Fn(sled::Error) -> StoreError + Sync),
) -> Result<Vec<Part>, StoreError> {
    let end = |row: Option<Result<sled::IVec, sled::Error>>| match row {
        Some(key) => key.map(|key| id_of(&key)).map_err(sled_error),
        None => Ok(None),
    };
    let keys = || db.scan_prefix([OPEN_JOB]).keys();
    let first = end(keys().next())?.map_or(0, JobId::get);
    let last = end(keys().next_back())?.map_or(0, JobId::get);
    let most = last.saturating_sub(first) / LEAST_IDS_PER_THREAD + 1;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let parts = threads.clamp(1, most);
    let width = last.saturating_sub(first) / parts + 1;
    let read = |part: u64| {
        // The first part begins, and the last one ends, with the range, so that no row is left out.
        let from = match part {
            0 => vec![OPEN_JOB],
            _ => job_key(OPEN_JOB, JobId::new(first.saturating_add(part * width))),
        };
        let to = if part + 1 == parts {
            vec![OPEN_JOB + 1]
        } else {
            let next = first.saturating_add((part + 1) * width);
            job_key(OPEN_JOB, JobId::new(next))
        };
        let mut read = Part {
            forgets_jobs: jobs == OpenJobs::Verified,
            ..Part::default()
        };
        read.read(db.range(from..to)).map_err(sled_error)?;
        Ok(read)
    };
    if parts == 1 {
        return Ok(vec![read(0)?]);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parts)
            .map(|part| scope.spawn(move || guarded(|| read(part))))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let part = thread
                .join()
                .map_err(|_| "its reading was stopped".to_owned());
            part.flatten()
                .unwrap_or_else(|panic| Err(place.damaged(panic)))
        });
        joined.collect()
    })
}

impl Part {
    fn read(&mut self, rows: sled::Iter) -> Result<(), sled::Error> {
        for row in rows {
            let (key, value) = row?;
            self.rows += 1;
            self.digest = self.digest.wrapping_add(mark(&key, &value));
            if let Err(bad) = take(&mut self.found, &key, &value) {
                self.unreadable.get_or_insert(bad);
            }
            if self.forgets_jobs {
                self.found.open_jobs.clear();
            }
        }
        Ok(())
    }
}

/// Adds one row to what was found.
pub(super) fn take(
    found: &mut Snapshot,
    key: &[u8],
    value: &[u8],
) -> Result<(), (BadValue, &'static str)> {
    match key.first().copied().unwrap_or(0) {
        WORKER => {
            let [pool, name] = texts(key, "a worker")?;
            let (paused, pause) = read_worker(value).map_err(|bad| (bad, "a worker"))?;
            found.workers.push(KnownWorker {
                pool,
                name,
                paused,
                pause,
            });
        }
        HINT => {
            let [pool, hint, worker] = texts(key, "a hint")?;
            let day = plain(value, "a hint")?;
            found.hints.push(Hint {
                pool,
                hint,
                worker,
                day,
            });
        }
        RATE => {
            let [pool, client] = texts(key, "a rate")?;
            let rate = plain(value, "a rate")?;
            found.rates.push(Rate { pool, client, rate });
        }
        DEBT => {
            let [pool, client] = texts(key, "a debt")?;
            let next_fair_start = plain(value, "a debt")?;
            found.debts.push(Debt {
                pool,
                client,
                next_fair_start,
            });
        }
        CLIENT => {
            let hash = key
                .split_first()
                .and_then(|(_, hash)| <[u8; 32]>::try_from(hash).ok())
                .ok_or((BadValue::Damaged, "a client"))?;
            let (client, created_day) = plain(value, "a client")?;
            found.clients.push(Client {
                client,
                hash,
                created_day,
            });
        }
        OPEN_JOB => {
            let record = read_record(value).map_err(|bad| (bad, "a job's record"))?;
            found.open_jobs.push(record);
        }
        _ => {}
    }
    Ok(())
}

fn texts<const N: usize>(
    key: &[u8],
    what: &'static str,
) -> Result<[String; N], (BadValue, &'static str)> {
    names(key).ok_or((BadValue::Damaged, what))
}

fn plain<T: DeserializeOwned>(
    value: &[u8],
    what: &'static str,
) -> Result<T, (BadValue, &'static str)> {
    read_value(value).map_err(|bad| (bad, what))
}
