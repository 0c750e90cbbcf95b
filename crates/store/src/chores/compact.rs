//! Writing a store anew, so that its files hold what is kept and no more.
//!
//! The new one is made beside the old one, verified, and put in its place by one rename. A kill at any moment leaves the
//! one or the other in place, whole.

use std::path::Path;

use crate::sled::Beside;
use crate::{Change, SledOptions, SledStore, Store, StoreError};

use super::export::{changes_of, page};
use super::import::Batch;
use super::line::job;

/// What became of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes before.
    pub before: u64,
    /// Bytes now.
    pub after: u64,
}

/// Compacts the store in the state directory `dir`, which no scheduler may use meanwhile. Takes, for a while, as much
/// room again as what is kept.
///
/// # Errors
/// As [`SledStore::open`]; [`StoreError::Damaged`] when anything in it cannot be read. The store is then as it was.
pub fn compact(dir: &Path, options: SledOptions) -> Result<Compacted, StoreError> {
    if !SledStore::exists(dir) {
        return Err(StoreError::none(dir));
    }
    let old = SledStore::open(dir, options)?;
    let beside = Beside::compaction(&old)?;
    let new = beside.open(options)?;
    let first = old.load_without_jobs(0)?;
    let next = first.next_job_id.get();
    let mut batch = Batch::default();
    batch.add(Change::JobIdsReserved { next }, &new)?;
    for change in changes_of(first) {
        batch.add(change, &new)?;
    }
    let mut before = None;
    loop {
        let page = page(&old, before)?;
        if let Some(id) = page.damaged.first() {
            // Compacting must not make a loss final.
            old.description(*id)?;
        }
        for (record, description) in page.jobs {
            batch.add(job(Box::new(record), description), &new)?;
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    batch.write(&new)?;
    new.continue_from(&old)?;
    drop(new);
    // Opened again, it is verified.
    drop(beside.open(options)?);
    let sizes = beside.sizes();
    beside.replace(old)?;
    Ok(Compacted {
        before: sizes.0,
        after: sizes.1,
    })
}
