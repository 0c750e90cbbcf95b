//! What the scheduler knows of all durable jobs together, and the small steps by which they move.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use ocluster_scheduling::{ClientId, Event, JobId, PoolName, WorkerName};
use ocluster_store::{Cause, JobRecord};
use tokio::sync::Notify;
use tracing::warn;

use super::attempt::Attempt;
use super::deadlines::Deadlines;
use super::job::{DurableJob, Phase};
use super::verdict;
use crate::config::JobPolicy;
use crate::seal::Seal;
use crate::space::SpaceGuard;
use crate::state::{Entry, Scheduler};
use crate::worker_session::WorkerSession;

/// Bytes of memory for descriptions of durable jobs. Others are read from the disk when a worker is there for them.
const DESCRIPTION_ROOM: usize = 64 << 20;

/// All durable jobs together.
pub(crate) struct Table {
    /// Those that a worker has, connected or not.
    taken: RefCell<BTreeMap<JobId, Rc<DurableJob>>>,
    pub(crate) deadlines: Deadlines,
    pub(crate) policy: JobPolicy,
    /// How long a worker may be silent before its jobs are given to others.
    pub(crate) lease: Duration,
    pub(crate) seal: Seal,
    /// Knows whether the disk has room for more jobs.
    pub(crate) space: Option<SpaceGuard>,
    /// Whether new ones are accepted.
    pub(crate) offered: bool,
    /// Bytes of memory that are left for descriptions.
    pub(crate) description_room: Rc<Cell<usize>>,
    keys: Rc<KeysInUse>,
}

impl Table {
    pub(crate) fn new(
        space: Option<SpaceGuard>,
        policy: JobPolicy,
        lease: Duration,
        seal: Seal,
        offered: bool,
    ) -> Self {
        Self {
            space,
            taken: RefCell::default(),
            deadlines: Deadlines::default(),
            policy,
            lease,
            seal,
            offered,
            description_room: Rc::new(Cell::new(DESCRIPTION_ROOM)),
            keys: Rc::default(),
        }
    }

    /// Waits until nobody else submits under these keys of the client, and keeps others from it until what is given is dropped.
    pub(crate) async fn hold_keys(&self, client: &ClientId, keys: Vec<String>) -> HeldKeys {
        let wanted: HashSet<(ClientId, String)> =
            keys.into_iter().map(|key| (client.clone(), key)).collect();
        loop {
            let mut freed = std::pin::pin!(self.keys.freed.notified());
            freed.as_mut().enable();
            let free = {
                let mut used = self.keys.used.borrow_mut();
                let free = used.is_disjoint(&wanted);
                if free {
                    used.extend(wanted.iter().cloned());
                }
                free
            };
            if free {
                return HeldKeys {
                    all: self.keys.clone(),
                    held: wanted,
                };
            }
            freed.await;
        }
    }
}

/// Keys under which something is being submitted.
#[derive(Default)]
struct KeysInUse {
    used: RefCell<HashSet<(ClientId, String)>>,
    freed: Notify,
}

/// Keys that nobody else may submit under.
pub(crate) struct HeldKeys {
    all: Rc<KeysInUse>,
    held: HashSet<(ClientId, String)>,
}

impl Drop for HeldKeys {
    fn drop(&mut self) {
        self.all
            .used
            .borrow_mut()
            .retain(|key| !self.held.contains(key));
        if !self.held.is_empty() {
            self.all.freed.notify_waiters();
        }
    }
}

impl Scheduler {
    /// A durable job that is not over.
    pub(crate) fn durable(&self, id: JobId) -> Option<Rc<DurableJob>> {
        match self.entry(id)? {
            Entry::Durable(job) => Some(job),
            Entry::Attached(_) => None,
        }
    }

    /// The durable jobs that the worker of this name has, or should have.
    pub(crate) fn jobs_on(&self, session: &WorkerSession) -> Vec<Rc<DurableJob>> {
        self.durable_on(&session.pool, session.name.as_str())
    }

    /// As [`Scheduler::jobs_on`], by names.
    pub(crate) fn durable_on(&self, pool: &PoolName, worker: &str) -> Vec<Rc<DurableJob>> {
        let taken = self.table().taken.borrow();
        let there = taken.values().filter(|job| {
            let attempt = job.under_way();
            job.pool == *pool && attempt.is_some_and(|attempt| attempt.worker.as_str() == worker)
        });
        there.cloned().collect()
    }

    /// How many jobs this worker is away with.
    pub(crate) fn jobs_away(&self, pool: &PoolName, worker: &WorkerName) -> usize {
        let jobs = self.durable_on(pool, worker.as_str());
        let away = jobs.iter().filter(|job| {
            let attempt = job.under_way();
            attempt.is_some_and(|attempt| !attempt.is_connected() && !attempt.over.get())
        });
        away.count()
    }

    /// The job waits in the queue from now on.
    pub(crate) fn durable_queued(&self, job: &Rc<DurableJob>) {
        self.table().taken.borrow_mut().remove(&job.id);
        self.await_worker(job);
        self.job_changed(job.id, &job.client);
    }

    /// From now on the job waits for a worker, and only for so long.
    pub(crate) fn await_worker(&self, job: &DurableJob) {
        if let Some(limit) = job.limits.queued {
            let at = self.queued_until(job, limit);
            self.table().deadlines.add(at, job.id);
        }
    }

    /// A worker has the job from now on.
    pub(crate) fn durable_taken(&self, job: &Rc<DurableJob>) {
        self.table().taken.borrow_mut().insert(job.id, job.clone());
        self.no_deadline(job);
        self.job_changed(job.id, &job.client);
    }

    /// The job is over, and that is on disk.
    pub(crate) fn durable_over(&self, job: &Rc<DurableJob>, record: JobRecord) {
        self.table().taken.borrow_mut().remove(&job.id);
        self.no_deadline(job);
        job.description.take();
        job.move_to(Phase::Over(Box::new(record)));
        self.remove_entry(job.id);
        self.job_changed(job.id, &job.client);
    }

    fn no_deadline(&self, job: &DurableJob) {
        if let Some(limit) = job.limits.queued {
            let at = self.queued_until(job, limit);
            self.table().deadlines.remove(at, job.id);
        }
    }

    /// Until when the job may wait: what it ran in between, for nothing, does not count.
    fn queued_until(&self, job: &DurableJob, limit: u64) -> u64 {
        let past = job.past.borrow();
        let ran: u64 = past
            .iter()
            .map(|attempt| attempt.ended.saturating_sub(attempt.started))
            .sum();
        job.queued_ms.saturating_add(limit).saturating_add(ran)
    }

    /// The scheduling core does not count the attempt as running any more.
    pub(crate) fn uncount(self: &Rc<Self>, job: &DurableJob, attempt: &Attempt) {
        if attempt.counted.replace(false)
            && let Err(refusal) = self.handle(Event::Finished { job: job.id })
        {
            warn!(job = %job.store_id(), %refusal, "Cannot end a running job");
        }
    }

    /// Makes a job end, for this cause, wherever it is. The first cause counts. Does not wait for anything.
    pub(crate) fn stop_for(self: &Rc<Self>, job: &DurableJob, cause: Cause) {
        {
            let mut stop = job.stop.borrow_mut();
            if stop.is_none() {
                *stop = Some(Box::new(cause));
            }
        }
        match job.under_way() {
            Some(attempt) => attempt.stop.cancel(),
            // What comes of it is done when the core says that the job is off its queue.
            None => self.post(Event::Cancelled { job: job.id }),
        }
    }

    /// A job whose client is not one any more is not to run again.
    pub(crate) fn end_without_client(&self, job: &DurableJob) {
        if !self.clients().is_registered(&job.client) {
            job.stop
                .borrow_mut()
                .get_or_insert_with(|| Box::new(access_revoked()));
        }
    }

    /// The core has taken the job off its queue, because somebody wanted it to end, or its client is gone.
    pub(crate) fn durable_cancelled(self: &Rc<Self>, job: Rc<DurableJob>) {
        let cause = job.stop.borrow().as_deref().cloned();
        let cause = cause.unwrap_or_else(access_revoked);
        let scheduler = self.clone();
        self.tasks().spawn_local(async move {
            verdict::end_in_queue(&scheduler, &job, cause).await;
        });
    }
}

fn access_revoked() -> Cause {
    Cause {
        code: verdict::ACCESS_REVOKED.to_owned(),
        sentence: "Access has been revoked".to_owned(),
    }
}
