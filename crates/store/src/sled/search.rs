//! Records of jobs, newest first, whether they are over or not: two ranges of rows read as one.

use sled::IVec;

use crate::{JobId, JobRecord, StoreError};

use super::rows::{ENDED_JOB, OPEN_JOB, id_of, job_key};
use super::store::SledStore;

/// A range of rows, from its end, and the row that comes next.
struct Source {
    rows: std::iter::Rev<sled::Iter>,
    head: Option<Result<(IVec, IVec), sled::Error>>,
}

impl Source {
    fn new(db: &sled::Db, kind: u8, first: JobId, last: JobId) -> Self {
        let mut rows = db.range(job_key(kind, first)..=job_key(kind, last)).rev();
        let head = rows.next();
        Self { rows, head }
    }

    /// Which source goes first: one with an error, then the one with the newest job.
    fn rank(&self) -> Option<JobId> {
        match self.head.as_ref()? {
            Ok((key, _)) => Some(id_of(key).unwrap_or(JobId::new(u64::MAX))),
            Err(_) => Some(JobId::new(u64::MAX)),
        }
    }

    fn take(&mut self) -> Option<Result<(IVec, IVec), sled::Error>> {
        let head = self.head.take();
        self.head = self.rows.next();
        head
    }
}

/// Records with ids from `first` to `last`, both included, of jobs that are not over, that are over, or both.
pub(super) fn newest_first(
    store: &SledStore,
    open: bool,
    ended: bool,
    (first, last): (JobId, JobId),
) -> impl Iterator<Item = Result<JobRecord, StoreError>> {
    let kinds = [(OPEN_JOB, open), (ENDED_JOB, ended)];
    let mut sources: Vec<Source> = kinds
        .into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(kind, _)| Source::new(store.db(), kind, first, last))
        .collect();
    std::iter::from_fn(move || {
        let next = sources.iter_mut().max_by_key(|source| source.rank())?;
        let row = next.take()?;
        Some(match row {
            Ok((_, value)) => store.record(&value),
            Err(error) => Err(store.io(error)),
        })
    })
}
