//! The contract every store keeps, in plain types. Nothing here may be something that only one engine can do.

use crate::{Change, JobId, JobMatch, JobPage, JobRecord, Snapshot, StoreError};

/// A place that remembers.
///
/// Every call may wait for a disk: none belongs on an asynchronous runtime's thread. Programs put a store behind a
/// [`Writer`](crate::Writer) and talk to its [`StoreHandle`](crate::StoreHandle).
pub trait Store: Send + 'static {
    /// Everything the scheduler keeps in memory, with hints last cached on `min_day` or later (in days since 1970-01-01
    /// UTC; 0 gives all).
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when what is stored does not agree with itself; I/O errors.
    fn load(&self, min_day: u32) -> Result<Snapshot, StoreError>;

    /// As [`load`](Self::load), but without the jobs, which makes it short.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn load_without_jobs(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        let mut found = self.load(min_day)?;
        found.open_jobs = Vec::new();
        Ok(found)
    }

    /// Makes these changes, in order, all or none. When it returns `Ok`, they survive a crash of the process and of
    /// the machine.
    ///
    /// # Errors
    /// I/O errors. It is then unknown whether the batch is there after a restart, but it is there whole or not at all.
    fn apply(&self, batch: &[Change]) -> Result<(), StoreError>;

    /// The record of a job.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when this record cannot be read; I/O errors.
    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError>;

    /// Up to `limit` records of jobs that have not ended, with ids above `after` (or all), oldest first. For those who take them
    /// in piece by piece, as there may be a million.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    fn open_jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        let found = self.load(0)?.open_jobs.into_iter();
        let above = found.filter(|job| after.is_none_or(|after| job.id > after));
        Ok(above.take(limit).collect())
    }

    /// The sealed description of a durable job that is not over.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when this description cannot be read, which concerns this job alone; I/O errors.
    fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError>;

    /// The job that this client submitted under this key, as long as there is a record of it; the one recorded last, if
    /// there are several.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    fn job_by_key(&self, client: &str, key: &str) -> Result<Option<JobRecord>, StoreError>;

    /// Up to `limit` records of jobs with ids below `before` (or all), newest first.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError>;

    /// Records of jobs that match and have ids below `before` (or any), newest first: at most `limit` of them, after a look
    /// at no more than `scan` records (each at least 1). A page without records need not be the last one:
    /// [`JobPage::next`] says how to go on.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    fn jobs_matching(
        &self,
        filter: &JobMatch,
        before: Option<JobId>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, StoreError>;

    /// Drops records of jobs that are over: those which ended before `ended_before_ms` (milliseconds since the Unix
    /// epoch), and then the oldest ones until `keep` remain. Gives the number dropped. Jobs that are not over stay.
    ///
    /// Jobs' submission times must grow with their ids, as [`JobIds`](crate::JobIds) gives them.
    ///
    /// # Errors
    /// I/O errors; some of the records may then be gone.
    fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError>;

    /// Whether the store still works: `Err` with the first lasting error.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] after an error from which the store does not recover without a restart.
    fn health(&self) -> Result<(), StoreError>;
}
