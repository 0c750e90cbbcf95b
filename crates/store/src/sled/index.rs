//! The index: the rows a start reads, verified and decoded in one pass.
//!
//! It must never give a row that the digest does not cover, nor leave one out.

use serde::de::DeserializeOwned;

use crate::{Client, Debt, Hint, JobId, KnownWorker, Rate, Snapshot, StoreError};

use super::place::Place;
use super::rows::{CLIENT, DEBT, HINT, INDEX, Meta, OPEN_JOB, RATE, WORKER, mark, names};
use super::values::{BadValue, read_record, read_value, read_worker};

/// Reads every row of the index and holds count and digest against what `meta` says. Lists are not sorted yet.
pub(super) fn read(
    place: &Place,
    db: &sled::Db,
    meta: &Meta,
    sled_error: &dyn Fn(sled::Error) -> StoreError,
) -> Result<Snapshot, StoreError> {
    let mut found = Snapshot {
        next_job_id: JobId::new(meta.next_job_id),
        ..Snapshot::default()
    };
    let (mut rows, mut digest) = (0u64, 0u64);
    // A row that cannot be read is told of only if the digest does not show that rows were altered or lost.
    let mut unreadable = None;
    for kind in INDEX {
        for row in db.scan_prefix([kind]) {
            let (key, value) = row.map_err(sled_error)?;
            rows += 1;
            digest = digest.wrapping_add(mark(&key, &value));
            if let Err((bad, what)) = take(&mut found, kind, &key, &value) {
                unreadable.get_or_insert((bad, what));
            }
        }
    }
    if rows != meta.rows {
        let expected = meta.rows;
        return Err(place.damaged(format!("it has {rows} rows, and should have {expected}")));
    }
    if digest != meta.digest {
        return Err(place.damaged("some of its rows were altered"));
    }
    match unreadable {
        Some((bad, what)) => Err(place.bad(bad, what)),
        None => Ok(found),
    }
}

/// Adds one row to what was found.
fn take(
    found: &mut Snapshot,
    kind: u8,
    key: &[u8],
    value: &[u8],
) -> Result<(), (BadValue, &'static str)> {
    match kind {
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
