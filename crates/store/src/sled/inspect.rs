//! Looking at every row of a store, without using it, to find whatever is wrong.
//!
//! It must never change a row. (Sled tidies its own files when it opens them, which nobody can keep it from.)

use std::path::Path;

use crate::{JobId, SledOptions, SledStore, Snapshot, StoreError};

use super::beside;
use super::index::take;
use super::opening::{guarded, open_error, open_files};
use super::place::Place;
use super::rows::{
    CLIENT, DEBT, DESCRIPTION, ENDED_JOB, HINT, HINT_DAY, INDEX, JOB_KEY, META, Meta, OPEN_JOB,
    RATE, WORKER, client_key, id_of, job_key, mark, names,
};
use super::values::{read_description, read_record, read_value};

/// Something that was found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// What the row about the others says.
    Meta { batch: u64, next_job_id: JobId },
    /// A row of this kind: `worker`, `hint`, `rate`, `debt`, `client`, `open job`, `ended job`, `description`, `key`.
    Row(&'static str),
    /// The rows of the index are not as many as there should be.
    Rows { found: u64, expected: u64 },
    /// The digest of the index is another one.
    Digest,
    /// The store ends at batch `found`, and `expected` was there once.
    Behind { found: u64, expected: u64 },
    /// There is no row at all, and should be.
    Empty,
    /// A row cannot be read, of a job if it has one.
    Unreadable {
        what: &'static str,
        job: Option<JobId>,
    },
    /// A description of a job that is not there or is over.
    StrayDescription(JobId),
    /// A durable job that is not over and has no description.
    NoDescription(JobId),
    /// A client's key without the job that it should find.
    StrayKey { client: String, key: String },
    /// A job's own key does not find it.
    NoKey(JobId),
    /// A record under another job's id, or in the wrong range.
    Misplaced(JobId),
    /// Rows of hints by age, which are not as many as hints.
    HintDays { hints: u64, days: u64 },
    /// A row of no known kind.
    Unknown,
}

/// Tells of everything in the store of a state directory, whose lock is held meanwhile.
pub(crate) fn inspect(
    dir: &Path,
    options: SledOptions,
    tell: &mut dyn FnMut(Finding),
) -> Result<(), StoreError> {
    if !SledStore::exists(dir) {
        return Err(StoreError::none(dir));
    }
    let place = Place::take(dir)?;
    beside::recover(&place)?;
    place.has_room(0)?;
    let (db, first, expected) = open_files(&place, options)?;
    let Some((meta, _)) = first else {
        if expected > 0 {
            tell(Finding::Empty);
        }
        return Ok(());
    };
    tell(Finding::Meta {
        batch: meta.batch,
        next_job_id: JobId::new(meta.next_job_id),
    });
    if meta.batch < expected {
        tell(Finding::Behind {
            found: meta.batch,
            expected,
        });
    }
    let looked = guarded(|| look(&db, &meta, tell).map_err(|error| open_error(&place, error)));
    looked.unwrap_or_else(|panic| Err(place.damaged(panic)))
}

fn look(db: &sled::Db, meta: &Meta, tell: &mut dyn FnMut(Finding)) -> Result<(), sled::Error> {
    let (mut rows, mut digest) = (0u64, 0u64);
    let (mut hints, mut days) = (0u64, 0u64);
    // Reading a row of the index adds it here, and nobody looks at it.
    let mut sink = Snapshot::default();
    for row in db.iter() {
        let (key, value) = row?;
        let kind = key.first().copied().unwrap_or(0);
        if INDEX.contains(&kind) {
            rows += 1;
            digest = digest.wrapping_add(mark(&key, &value));
            if let Err((_, what)) = take(&mut sink, &key, &value) {
                let job = if kind == OPEN_JOB { id_of(&key) } else { None };
                tell(Finding::Unreadable { what, job });
            }
            sink = Snapshot::default();
        }
        match kind {
            WORKER => tell(Finding::Row("worker")),
            HINT => hints += 1,
            RATE => tell(Finding::Row("rate")),
            DEBT => tell(Finding::Row("debt")),
            CLIENT => tell(Finding::Row("client")),
            OPEN_JOB | ENDED_JOB => job(db, &key, &value, tell)?,
            DESCRIPTION => description(db, &key, &value, tell)?,
            JOB_KEY => client_key_row(db, &key, &value, tell)?,
            HINT_DAY => days += 1,
            META => {}
            _ => tell(Finding::Unknown),
        }
        if kind == HINT {
            tell(Finding::Row("hint"));
        }
    }
    if hints != days {
        tell(Finding::HintDays { hints, days });
    }
    if rows != meta.rows {
        tell(Finding::Rows {
            found: rows,
            expected: meta.rows,
        });
    } else if digest != meta.digest {
        tell(Finding::Digest);
    }
    Ok(())
}

fn job(
    db: &sled::Db,
    key: &[u8],
    value: &[u8],
    tell: &mut dyn FnMut(Finding),
) -> Result<(), sled::Error> {
    let open = key.first() == Some(&OPEN_JOB);
    tell(Finding::Row(if open { "open job" } else { "ended job" }));
    let id = id_of(key);
    let Ok(record) = read_record(value) else {
        // Of open jobs, the index tells.
        if !open {
            tell(Finding::Unreadable {
                what: "an ended job's record",
                job: id,
            });
        }
        return Ok(());
    };
    if Some(record.id) != id || record.state.is_ended() == open {
        tell(Finding::Misplaced(id.unwrap_or(record.id)));
    }
    if open && record.durable && !db.contains_key(job_key(DESCRIPTION, record.id))? {
        tell(Finding::NoDescription(record.id));
    }
    if let Some(name) = &record.key
        && !db.contains_key(client_key(&record.client, name))?
    {
        tell(Finding::NoKey(record.id));
    }
    Ok(())
}

fn description(
    db: &sled::Db,
    key: &[u8],
    value: &[u8],
    tell: &mut dyn FnMut(Finding),
) -> Result<(), sled::Error> {
    tell(Finding::Row("description"));
    let job = id_of(key);
    if read_description(key, value).is_err() {
        let what = "a description";
        tell(Finding::Unreadable { what, job });
    }
    if let Some(id) = job
        && !db.contains_key(job_key(OPEN_JOB, id))?
    {
        tell(Finding::StrayDescription(id));
    }
    Ok(())
}

fn client_key_row(
    db: &sled::Db,
    key: &[u8],
    value: &[u8],
    tell: &mut dyn FnMut(Finding),
) -> Result<(), sled::Error> {
    tell(Finding::Row("key"));
    let named: Option<[String; 2]> = names(key);
    let (Some([client, name]), Ok(id)) = (named, read_value::<JobId>(value)) else {
        let what = "a client's key";
        tell(Finding::Unreadable { what, job: None });
        return Ok(());
    };
    let mut found = false;
    for kind in [OPEN_JOB, ENDED_JOB] {
        // A record that cannot be read is told of by itself, and may well be the right one.
        found |= db
            .get(job_key(kind, id))?
            .is_some_and(|value| match read_record(&value) {
                Ok(job) => job.client == client && job.key.as_deref() == Some(name.as_str()),
                Err(_) => true,
            });
    }
    if !found {
        tell(Finding::StrayKey { client, key: name });
    }
    Ok(())
}
