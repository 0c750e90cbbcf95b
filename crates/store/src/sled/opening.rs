//! Opening: what is found is held against what should be there, before anybody may use it.
//!
//! It must never take a lost, cut or altered store for a good one, and never make a new one where there was one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{JobId, StoreError};

use super::place::Place;
use super::rows::{BadValue, INDEX, META, Meta, mark, read_value, value};
use super::store::SledOptions;

/// Opens sled's files, verifies the index, and gives what the store says about its rows.
pub(super) fn open(place: &Place, options: SledOptions) -> Result<(sled::Db, Meta), StoreError> {
    let marker = place.marker()?;
    let has_data = place.has_data()?;
    if marker.is_some() && !has_data {
        return Err(StoreError::Missing {
            dir: place.dir.clone(),
        });
    }
    let opened = guarded(|| {
        let db = sled::Config::new()
            .path(place.data())
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None)
            .open()
            .map_err(|error| open_error(place, error))?;
        let meta = read_meta(place, &db)?;
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
        None => begin(&db).map_err(|error| open_error(place, error))?,
    };
    Ok((db, meta))
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
