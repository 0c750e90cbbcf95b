//! Simulated disks: what survives a crash of its host, and how slow it is at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ocluster_joblog::Pace;
use ocluster_store::{
    Change, JobId, JobMatch, JobPage, JobRecord, MemoryStore, Snapshot, Store, StoreError,
};

/// The speed of a disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Speed(Arc<AtomicU64>);

impl Speed {
    /// A disk whose writes take this long.
    #[must_use]
    pub fn new(write: Duration) -> Self {
        let speed = Self(Arc::default());
        speed.set(write);
        speed
    }

    /// From now on a write takes this long.
    pub fn set(&self, write: Duration) {
        let micros = u64::try_from(write.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// What a log store asks before each write.
    #[must_use]
    pub fn pace(&self) -> Pace {
        let speed = self.clone();
        Arc::new(move || Duration::from_micros(speed.0.load(Ordering::Relaxed)))
    }
}

/// A store that outlives its scheduler.
#[derive(Debug, Default)]
pub struct Platter {
    kept: Arc<MemoryStore>,
    head: Arc<AtomicBool>,
}

impl Platter {
    /// The store for one life of the scheduler. Earlier ones can write no more.
    pub fn attach(&mut self) -> Attached {
        self.detach();
        self.head = Arc::new(AtomicBool::new(true));
        Attached {
            kept: self.kept.clone(),
            head: self.head.clone(),
        }
    }

    /// The scheduler has crashed: what its remains do is not written.
    pub fn detach(&self) {
        self.head.store(false, Ordering::Relaxed);
    }
}

/// What one life of the scheduler has of a [`Platter`].
#[derive(Debug)]
pub struct Attached {
    kept: Arc<MemoryStore>,
    head: Arc<AtomicBool>,
}

impl Store for Attached {
    fn load(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        self.kept.load(min_day)
    }

    fn apply(&self, batch: &[Change]) -> Result<(), StoreError> {
        if !self.head.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        self.kept.apply(batch)
    }

    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.kept.job(id)
    }

    fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.kept.description(id)
    }

    fn job_by_key(&self, client: &str, key: &str) -> Result<Option<JobRecord>, StoreError> {
        self.kept.job_by_key(client, key)
    }

    fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        self.kept.jobs(before, limit)
    }

    fn jobs_matching(
        &self,
        filter: &JobMatch,
        before: Option<JobId>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, StoreError> {
        self.kept.jobs_matching(filter, before, limit, scan)
    }

    fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        self.kept.prune_jobs(keep, ended_before_ms)
    }

    fn health(&self) -> Result<(), StoreError> {
        self.kept.health()
    }
}
