//! The pools together: finds the pool an event is about and hands it over.
//!
//! Decides nothing itself. Pools are few (they are named on the command line), so a number is looked up by asking each.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::effect::{Effects, Refusal};
use crate::event::Event;
use crate::explain::Explanation;
use crate::ids::{ClientId, Hint, JobId, PoolName, WorkerId, WorkerName};
use crate::pool::{Accepted, Out, Pool};
use crate::reasons::{Reason, Reasons};
use crate::record::Record;
use crate::show;
use crate::time::Timestamp;
use crate::view::{KnownWorker, PoolStats, PoolView};

/// The state of the whole cluster: many named pools.
#[derive(Debug)]
pub struct Cluster {
    pools: BTreeMap<PoolName, Pool>,
}

impl Cluster {
    /// A cluster with empty pools.
    pub fn new(config: Config) -> Self {
        let mut pools = BTreeMap::new();
        for pool in &config.pools {
            pools.entry(pool.name.clone()).or_insert_with(|| {
                let quota = config.max_running.clone();
                Pool::new(pool.clone(), config.costs, config.hint_max_age, quota)
            });
        }
        Self { pools }
    }

    /// Takes back what [`crate::Effect::Persist`] asked to remember in an earlier life. To be called before the first
    /// event. A record about a pool that no longer exists is ignored.
    pub fn restore(&mut self, fact: Record) {
        let pool = match &fact {
            Record::KnownWorker { pool, .. }
            | Record::Debt { pool, .. }
            | Record::ForgottenWorker { pool, .. }
            | Record::CachedHint { pool, .. }
            | Record::ExpiredHint { pool, .. }
            | Record::Rate { pool, .. }
            | Record::RateDeleted { pool, .. } => pool,
        };
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.restore(fact);
        }
    }

    /// Decides what follows from `event` happening at `now`. The times given need not increase; a job is never ordered
    /// before the time at which it was submitted.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Effects {
        let mut out = Out::new(now);
        let outcome = self.dispatch(&mut out, event);
        Effects {
            list: out.list,
            outcome,
        }
    }

    fn dispatch(&mut self, out: &mut Out, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Submitted {
                pool,
                client,
                job,
                hint,
                urgent,
            } => {
                self.check_new(job)?;
                self.named(&pool)?.submit(out, client, job, hint, urgent)
            }
            Event::Requeued {
                pool,
                client,
                job,
                hint,
                urgent,
                fair_start,
                avoid,
            } => {
                self.check_new(job)?;
                let accepted = Accepted {
                    client,
                    job,
                    hint,
                    urgent,
                    fair_start,
                    avoid,
                };
                self.named(&pool)?.requeue(out, accepted)
            }
            Event::Adopted {
                worker,
                job,
                client,
                hint,
            } => {
                self.check_new(job)?;
                self.of_worker(worker)?
                    .adopt(out, worker, job, client, hint)
            }
            Event::Cancelled { job } => {
                match self.pools.values_mut().find(|pool| pool.has_queued(job)) {
                    Some(pool) => pool.cancel(out, job),
                    None => Err(Refusal::NotQueued),
                }
            }
            Event::Finished { job } => {
                match self.pools.values_mut().find(|pool| pool.has_running(job)) {
                    Some(pool) => pool.finished(out, job),
                    None => Err(Refusal::NotRunning),
                }
            }
            Event::Registered {
                pool,
                worker,
                name,
                capacity,
            } => {
                if self.pools.values().any(|pool| pool.has_worker(worker)) {
                    return Err(Refusal::NumberReused);
                }
                self.named(&pool)?.register(out, worker, name, capacity)
            }
            Event::Asked { worker, pop } => {
                if self.pools.values().any(|pool| pool.has_pop(pop)) {
                    return Err(Refusal::NumberReused);
                }
                self.of_worker(worker)?.ask(out, worker, pop)
            }
            Event::PopResumed { pop } => {
                match self.pools.values_mut().find(|pool| pool.has_pop(pop)) {
                    Some(pool) => pool.resume_pop(out, pop),
                    None => Err(Refusal::UnknownPop),
                }
            }
            Event::PopWithdrawn { pop } => {
                match self.pools.values_mut().find(|pool| pool.has_pop(pop)) {
                    Some(pool) => pool.withdraw_pop(out, pop),
                    None => Err(Refusal::UnknownPop),
                }
            }
            Event::WorkerPaused { worker, note } => {
                self.of_worker(worker)?.worker_paused(out, worker, note)
            }
            Event::WorkerResumed { worker } => {
                self.of_worker(worker)?
                    .activate(out, worker, Reason::WorkerPause)
            }
            Event::ShuttingDown { worker } => {
                self.of_worker(worker)?
                    .deactivate(out, worker, Reason::ShuttingDown)
            }
            Event::ShutdownCleared { worker } => {
                self.of_worker(worker)?
                    .activate(out, worker, Reason::ShuttingDown)
            }
            Event::AdminActive {
                pool,
                name,
                active,
                auto_create,
                pause,
            } => self
                .named(&pool)?
                .admin_active(out, name, active, auto_create, pause),
            Event::Left { worker } => self.of_worker(worker)?.leave(out, worker),
            Event::Forgotten { pool, name } => self.named(&pool)?.forget(out, name),
            Event::RateSet { pool, client, rate } => self.named(&pool)?.set_rate(out, client, rate),
            Event::ClientRemoved { client } => {
                for pool in self.pools.values_mut() {
                    pool.remove_client(out, &client)?;
                }
                Ok(())
            }
            Event::Tick => {
                for pool in self.pools.values_mut() {
                    pool.tick(out);
                }
                Ok(())
            }
        }
    }

    /// A job that is queued or running cannot come again.
    fn check_new(&self, job: JobId) -> Result<(), Refusal> {
        match self.pools.values().any(|pool| pool.has_job(job)) {
            true => Err(Refusal::NumberReused),
            false => Ok(()),
        }
    }

    fn named(&mut self, name: &PoolName) -> Result<&mut Pool, Refusal> {
        self.pools
            .get_mut(name)
            .ok_or_else(|| Refusal::UnknownPool(name.as_str().to_owned()))
    }

    fn of_worker(&mut self, worker: WorkerId) -> Result<&mut Pool, Refusal> {
        self.pools
            .values_mut()
            .find(|pool| pool.has_worker(worker))
            .ok_or(Refusal::QueueClosed)
    }

    /// The names of the pools, in order.
    pub fn pools(&self) -> impl Iterator<Item = &PoolName> {
        self.pools.keys()
    }

    /// The pool as text, as `ocluster-admin show` prints it; `None` if there is no such pool. Walks every queue.
    pub fn show(&self, pool: &PoolName, now: Timestamp) -> Option<String> {
        self.view(pool).map(|view| show::show(&view, now))
    }

    /// [`Cluster::show`], followed by the workers on which each hint is cached. For tests and the curious.
    pub fn dump(&self, pool: &PoolName, now: Timestamp) -> Option<String> {
        let hints = self.cached_hints(pool)?;
        self.view(pool).map(|view| show::dump(&view, &hints, now))
    }

    /// Everything `show` shows, as data. Walks every queue.
    pub fn view(&self, pool: &PoolName) -> Option<PoolView> {
        self.pools.get(pool).map(Pool::view)
    }

    /// Each hint that is cached somewhere, with the workers that have it; both in order.
    pub fn cached_hints(&self, pool: &PoolName) -> Option<Vec<(Hint, Vec<WorkerName>)>> {
        self.pools.get(pool).map(Pool::cached_hints)
    }

    /// The workers the pool remembers, connected or not, by name.
    pub fn known_workers(&self, pool: &PoolName) -> Option<Vec<KnownWorker>> {
        self.pools.get(pool).map(Pool::known_workers)
    }

    /// The registration of the connected worker with this name.
    pub fn worker(&self, pool: &PoolName, name: &WorkerName) -> Option<WorkerId> {
        self.pools.get(pool)?.connected(name)
    }

    /// Why this connected worker gets no work; empty if it is active. `None` once it has left.
    pub fn reasons(&self, worker: WorkerId) -> Option<Reasons> {
        self.pools.values().find_map(|pool| pool.reasons(worker))
    }

    /// How many jobs this worker has taken and not finished. Also answered for a worker that left, as long as the
    /// outside has not reported the end of all its jobs; 0 after that and for a worker never seen.
    pub fn running(&self, worker: WorkerId) -> u32 {
        self.pools
            .values()
            .find_map(|pool| pool.running_on(worker))
            .unwrap_or(0)
    }

    /// How many jobs the client has queued, in all pools.
    pub fn queued_by(&self, client: &ClientId) -> u64 {
        self.pools.values().map(|pool| pool.queued_by(client)).sum()
    }

    /// Whether this job is still on a queue, and so can be cancelled.
    pub fn is_queued(&self, job: JobId) -> bool {
        self.pools.values().any(|pool| pool.has_queued(job))
    }

    /// Why this job waits, and for what; `None` if it is not queued. Looks at the jobs ahead of it, up to a bound.
    pub fn explain(&self, job: JobId) -> Option<Explanation> {
        self.pools.values().find_map(|pool| pool.explain(job))
    }

    /// The pool's figures, for metrics. Walks no queue.
    pub fn pool_stats(&self, pool: &PoolName) -> Option<PoolStats> {
        self.pools.get(pool).map(Pool::stats)
    }
}
