//! Opening: what is found is held against what should be there, before anybody may use it.
//!
//! It must never take a lost, cut or altered store for a good one, and never make a new one where there was one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::{JobId, Snapshot, StoreError};

use super::index::OpenJobs;
use super::place::Place;
use super::rows::{META, Meta};
use super::store::SledOptions;
use super::values::{VERSION, read_value, value};
use super::{beside, index};

/// How long sled may take to let go of files that this process has closed: it does so on threads of its own.
const CLOSING: Duration = Duration::from_secs(5);

/// A store that was opened.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    /// What the store says about its rows.
    pub(super) meta: Meta,
    /// The index, which was verified, without open jobs. Hints of any age.
    pub(super) settings: Snapshot,
}

/// Opens sled's files, verifies the index, and says in the marker what is there. A store of an older format is one of
/// the present format afterwards: new rows are written in the present form, and the older program refuses it.
pub(super) fn open(place: &Place, options: SledOptions) -> Result<Opened, StoreError> {
    beside::recover(place)?;
    // Sled writes when it opens its files.
    place.has_room(0)?;
    let (db, first, expected) = open_files(place, options)?;
    let settings = guarded(|| match &first {
        Some((meta, _)) => index::read(place, &db, meta, OpenJobs::Verified, &|error| {
            open_error(place, error)
        }),
        None => Ok(Snapshot::default()),
    });
    let settings = settings.unwrap_or_else(|panic| Err(place.damaged(panic)))?;
    let (meta, older) = match first {
        Some((meta, _)) if meta.batch < expected => {
            let (is, was) = (meta.batch, expected);
            return Err(place.damaged(format!(
                "its last changes are missing (it ends at change {is}, and there were at least {was})"
            )));
        }
        Some((meta, version)) => (meta, version < VERSION),
        None if expected > 0 => {
            return Err(place.damaged("its data files are there, but empty"));
        }
        None => {
            let meta = Meta {
                batch: 1,
                next_job_id: JobId::default().get(),
                ..Meta::default()
            };
            (meta, true)
        }
    };
    // The marker comes first: an older program must not meet rows that it cannot read.
    place.mark(meta.batch)?;
    if older {
        write_meta(&db, &meta).map_err(|error| open_error(place, error))?;
    }
    beside::tidy(place);
    Ok(Opened { db, meta, settings })
}

/// What the row about the others says, and the version in which it says so.
type First = Option<(Meta, u8)>;

/// Opens sled's files without a look at the rows but the first one. Gives it, and the batch that must be there.
pub(super) fn open_files(
    place: &Place,
    options: SledOptions,
) -> Result<(sled::Db, First, u64), StoreError> {
    let marker = place.marker()?;
    // Asked in any case: something else in the data's place is refused.
    let has_data = place.has_data()?;
    if marker.is_some() && !has_data {
        return Err(StoreError::Missing {
            dir: place.dir.clone(),
        });
    }
    let opened = guarded(|| {
        let config = sled::Config::new()
            .path(place.data())
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None);
        let given_up = Instant::now() + CLOSING;
        let db = loop {
            match config.open() {
                // The store's own lock is ours, so that it is this process that is not done with closing the files.
                Err(sled::Error::Io(error))
                    if error.to_string().contains("could not acquire lock")
                        && Instant::now() < given_up =>
                {
                    std::thread::sleep(CLOSING / 100);
                }
                opened => break opened.map_err(|error| open_error(place, error))?,
            }
        };
        let first = read_meta(place, &db)?;
        Ok((db, first))
    });
    let (db, first) = opened.unwrap_or_else(|panic| Err(place.damaged(panic)))?;
    Ok((db, first, marker.map_or(0, |marker| marker.batch)))
}

/// Turns a panic of sled, which damaged files can cause, into a sentence.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        format!("sled gave up on it ({said})")
    })
}

pub(super) fn open_error(place: &Place, error: sled::Error) -> StoreError {
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
            StoreError::io(format!("open {}", place.data().display()), &io)
        }
        other => place.damaged(format!("sled cannot open it ({other})")),
    }
}

/// Reads what the store says about its rows, and the version in which it says so. `None`: there is nothing yet.
fn read_meta(place: &Place, db: &sled::Db) -> Result<First, StoreError> {
    let Some(bytes) = db.get([META]).map_err(|error| open_error(place, error))? else {
        let foreign = db.iter().next().is_some() || db.tree_names().len() > 1;
        return if foreign {
            Err(place.foreign("its data was written by another program"))
        } else {
            Ok(None)
        };
    };
    let meta = read_value(&bytes).map_err(|bad| place.bad(bad, "its first row"))?;
    Ok(Some((meta, bytes.first().copied().unwrap_or(0))))
}

/// Writes the row about the others, in the present form.
pub(super) fn write_meta(db: &sled::Db, meta: &Meta) -> Result<(), sled::Error> {
    let bytes = value(meta).map_err(|error| sled::Error::Unsupported(error.to_string()))?;
    db.insert([META], bytes)?;
    db.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::rows::{CLIENT, HINT, Key, OPEN_JOB, WORKER, job_key, mark};
    use super::super::values::BadValue;
    use super::*;
    use crate::{JobKind, JobRecord, SledStore, Store};

    /// A state directory as the first version left it, byte by byte.
    fn of_version_1(dir: &std::path::Path) {
        let rows = [
            (
                Key::new(WORKER).text("p").text("w").done(),
                b"\x01\x01".to_vec(),
            ),
            (
                Key::new(HINT).text("p").text("h").text("w").done(),
                b"\x01\x80\x01".to_vec(),
            ),
            (
                Key::new(CLIENT).raw(&[7; 32]).done(),
                b"\x01\x01a\x05".to_vec(),
            ),
            (
                job_key(OPEN_JOB, JobId::new(3)),
                b"\x01\x03\x01p\x01a\0\0\0\0\0\x09\0\0\0\0\0\0\0".to_vec(),
            ),
        ];
        let db = sled::open(dir.join("store")).unwrap();
        let mut meta = Meta {
            batch: 7,
            next_job_id: 100,
            ..Meta::default()
        };
        for (key, row) in rows {
            meta.rows += 1;
            meta.digest = meta.digest.wrapping_add(mark(&key, &row));
            db.insert(key, row).unwrap();
        }
        let meta = postcard::to_extend(&meta, vec![1]).unwrap();
        db.insert([META], meta).unwrap();
        db.flush().unwrap();
        let marker = r#"{"format":1,"engine":"sled","batch":7}"#;
        std::fs::write(dir.join("store.json"), marker).unwrap();
    }

    #[test]
    fn a_store_of_version_1_is_read_and_becomes_one_of_version_2() {
        let dir = tempfile::tempdir().unwrap();
        of_version_1(dir.path());
        for round in 0..2 {
            let store = SledStore::open(dir.path(), SledOptions::default()).unwrap();
            let found = store.load(0).unwrap();
            assert_eq!(found.next_job_id, JobId::new(100), "round {round}");
            assert!(found.workers[0].paused);
            assert_eq!(found.hints[0].day, 128);
            assert_eq!(found.clients[0].client, "a");
            let expected = JobRecord::queued(JobId::new(3), "p", "a", JobKind::Docker, 9);
            assert_eq!(found.open_jobs, [expected]);
        }
        let marker = std::fs::read_to_string(dir.path().join("store.json")).unwrap();
        assert!(marker.contains("\"format\":2"), "{marker}");
        // Even without the marker, the older program sees that this is not for it.
        let db = sled::open(dir.path().join("store")).unwrap();
        assert_eq!(db.get([META]).unwrap().unwrap()[0], VERSION);
    }

    #[test]
    fn rows_of_both_versions_live_together() {
        let dir = tempfile::tempdir().unwrap();
        of_version_1(dir.path());
        let open = || SledStore::open(dir.path(), SledOptions::default()).unwrap();
        let hint = |day| crate::Change::HintCached {
            pool: "p".to_owned(),
            hint: "h".to_owned(),
            worker: "w".to_owned(),
            day,
        };
        // The same day, in the new form.
        open().apply(&[hint(128)]).unwrap();
        assert_eq!(open().load(0).unwrap().hints[0].day, 128);
        open().apply(&[hint(200)]).unwrap();
        let mut ended = open().job(JobId::new(3)).unwrap().unwrap();
        ended.state = crate::JobState::Lost;
        open()
            .apply(&[crate::Change::JobRecorded(Box::new(ended.clone()))])
            .unwrap();
        let found = open().load(0).unwrap();
        assert_eq!((found.hints[0].day, found.open_jobs.len()), (200, 0));
        assert_eq!(open().job(JobId::new(3)).unwrap(), Some(ended));
    }

    #[test]
    fn a_row_that_is_covered_by_the_digest_and_still_unreadable_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        of_version_1(dir.path());
        let db = sled::open(dir.path().join("store")).unwrap();
        let key = Key::new(WORKER).text("p").text("w2").done();
        let mut meta: Meta = read_value(&db.get([META]).unwrap().unwrap()).unwrap();
        meta.rows += 1;
        meta.digest = meta.digest.wrapping_add(mark(&key, b"\x02"));
        db.insert(key, b"\x02").unwrap();
        write_meta(&db, &meta).unwrap();
        drop(db);
        let error = SledStore::open(dir.path(), SledOptions::default()).unwrap_err();
        assert!(
            error.to_string().contains("a worker cannot be read"),
            "{error}"
        );
        assert_eq!(read_value::<bool>(b"\x02"), Err(BadValue::Damaged));
    }
}
