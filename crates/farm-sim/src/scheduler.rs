//! The scheduler's shell around the core, as small as it can be: what it holds in memory, and how it does what the core says.
//!
//! Nothing is told to anybody before it is on disk. What is held here dies with the process.

use std::collections::{BTreeMap, BTreeSet};

use ocluster_scheduling::{
    ClientId, Cluster, Config, Costs, Effect, Event, Fact, JobId, PoolConfig, PoolName, PopId,
    TakenFrom, Timestamp, WorkerId, WorkerName,
};

use crate::disk::{End, Row, State, Write};
use crate::happening::{Conn, Happening};
use crate::world::World;

/// What the core assumes jobs to cost.
pub(crate) const COSTS: Costs = Costs {
    cached: 20,
    non_cached: 240,
};

/// A job that has not ended.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) row: Row,
    /// The connection of the worker that has it.
    pub(crate) conn: Option<Conn>,
    /// The core counts it, as queued or as running.
    pub(crate) in_core: bool,
}

/// A worker that has joined.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) worker: usize,
    pub(crate) id: WorkerId,
}

/// What is done when a batch is on disk.
#[derive(Debug)]
pub(crate) enum Then {
    Accept {
        key: usize,
        job: JobId,
    },
    Give {
        conn: Conn,
        job: JobId,
        attempt: u32,
    },
    Fence {
        job: JobId,
        attempt: u32,
    },
    Stop {
        conn: Conn,
        job: JobId,
        attempt: u32,
    },
    Settle {
        conn: Conn,
        job: JobId,
        attempt: u32,
    },
    End {
        job: JobId,
        end: End,
    },
    AnswerCancel {
        key: usize,
        cancelled: bool,
    },
}

/// What is written at once, and what follows.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) writes: Vec<Write>,
    pub(crate) then: Vec<Then>,
}

/// Where a job stands in queue order.
type Place = (bool, Timestamp, JobId);

/// The scheduler's memory.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) cluster: Cluster,
    pub(crate) live: BTreeMap<JobId, Live>,
    pub(crate) keys: BTreeMap<usize, JobId>,
    pub(crate) sessions: BTreeMap<Conn, Session>,
    pub(crate) conns: BTreeMap<WorkerId, Conn>,
    pub(crate) pops: BTreeMap<PopId, WorkerId>,
    pub(crate) batch: Batch,
    pub(crate) flushing: Option<Batch>,
    /// Queued jobs without a hint and without a worker to avoid: nothing but queue order decides about these.
    plain: BTreeMap<usize, BTreeSet<Place>>,
    /// Jobs that run, as far as the core knows, by pool and client.
    running: BTreeMap<(usize, usize), u32>,
    /// Where the last job taken was found.
    taken_from: Option<TakenFrom>,
    decisions: u64,
}

impl Scheduler {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            live: BTreeMap::new(),
            keys: BTreeMap::new(),
            sessions: BTreeMap::new(),
            conns: BTreeMap::new(),
            pops: BTreeMap::new(),
            batch: Batch::default(),
            flushing: None,
            plain: BTreeMap::new(),
            running: BTreeMap::new(),
            taken_from: None,
            decisions: 0,
        }
    }

    /// Whether there is nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        let batch = |batch: &Batch| batch.writes.is_empty() && batch.then.is_empty();
        self.live.is_empty() && self.flushing.is_none() && batch(&self.batch)
    }

    pub(crate) fn job_of(&self, key: usize) -> Option<JobId> {
        self.keys.get(&key).copied()
    }

    pub(crate) fn request_of(&self, job: JobId) -> Option<usize> {
        self.live.get(&job).map(|live| live.row.request)
    }

    /// Writes a job's row as it is now.
    pub(crate) fn write_row(&mut self, job: JobId) {
        if let Some(live) = self.live.get(&job) {
            self.batch.writes.push(Write::Row(job, live.row.clone()));
        }
    }

    pub(crate) fn then(&mut self, then: Then) {
        self.batch.then.push(then);
    }

    fn place(row: &Row, job: JobId) -> Place {
        (!row.urgent, row.fair_start, job)
    }

    /// A job is queued.
    fn note_queued(&mut self, job: JobId) {
        let Some(Live { row, .. }) = self.live.get(&job) else {
            return;
        };
        if row.hint.is_empty() && row.avoid.is_empty() {
            let place = Self::place(row, job);
            self.plain.entry(row.pool).or_default().insert(place);
        }
    }

    /// A job is not queued any more.
    pub(crate) fn note_unqueued(&mut self, job: JobId) {
        if let Some(Live { row, .. }) = self.live.get(&job)
            && let Some(plain) = self.plain.get_mut(&row.pool)
        {
            plain.remove(&Self::place(row, job));
        }
    }

    /// A job began or ended to run in the core's eyes.
    pub(crate) fn note_running(&mut self, job: JobId, begins: bool) -> u32 {
        let Some(Live { row, .. }) = self.live.get(&job) else {
            return 0;
        };
        let running = self.running.entry((row.pool, row.client)).or_default();
        *running = match begins {
            true => *running + 1,
            false => running.saturating_sub(1),
        };
        *running
    }
}

impl World {
    /// The core's configuration at a start.
    pub(crate) fn config(&self) -> Config {
        let pools = self.plan.pools.iter().map(|pool| PoolConfig {
            name: pool.name.as_str().into(),
            policy: pool.policy,
        });
        Config {
            pools: pools.collect(),
            costs: COSTS,
            hint_max_age: Some(3),
            max_running: self.plan.max_running.clone(),
        }
    }

    pub(crate) fn pool_name(&self, pool: usize) -> PoolName {
        let pool = self.plan.pools.get(pool);
        pool.map_or_else(|| "".into(), |pool| pool.name.as_str().into())
    }

    pub(crate) fn client_id(&self, client: usize) -> ClientId {
        let client = self.plan.clients.get(client);
        client.map_or_else(|| "".into(), |client| client.name.as_str().into())
    }

    pub(crate) fn worker_name(&self, worker: usize) -> WorkerName {
        let worker = self.plan.workers.get(worker);
        worker.map_or_else(|| "".into(), |worker| worker.name.as_str().into())
    }

    /// Asks the core, which must not refuse.
    pub(crate) fn must(&mut self, event: Event) {
        let said = format!("{event:?}");
        if !self.decide(event) {
            self.checker.violated(|| format!("the core refused {said}"));
        }
    }

    /// Asks the core, and does what it says; whether it accepted the event.
    pub(crate) fn decide(&mut self, event: Event) -> bool {
        let clock = self.clock();
        self.trace.decides(self.now, &event);
        let Some(scheduler) = &mut self.scheduler else {
            return false;
        };
        let effects = scheduler.cluster.handle(clock, event);
        scheduler.decisions += 1;
        let look = scheduler.decisions.is_multiple_of(64);
        for effect in effects.list {
            self.perform(effect);
        }
        if look {
            self.check_idle();
        }
        effects.outcome.is_ok()
    }

    fn perform(&mut self, effect: Effect) {
        let epoch = self.epoch;
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        match effect {
            Effect::Wake { pop } => {
                let wait = self.chance.between(0, 3);
                self.after(wait, Happening::Resumes { epoch, pop });
            }
            Effect::Queued { job, fair_start } => self.queued(job, fair_start),
            Effect::Persist(record) => scheduler.batch.writes.push(Write::Record(record)),
            Effect::Log(Fact::Takes { from, .. }) => scheduler.taken_from = Some(from),
            Effect::Log(_) => {}
            Effect::Give { pop, job, worker } => {
                scheduler.pops.remove(&pop);
                self.check_taken(job, worker);
                self.give(job, worker);
            }
            Effect::EndPop { pop } => {
                scheduler.pops.remove(&pop);
            }
            Effect::JobCancelled { job } => scheduler.note_unqueued(job),
            Effect::RunningChanged {
                worker, running, ..
            } => {
                if scheduler.cluster.running(worker) < running {
                    self.checker
                        .violated(|| format!("{running} jobs were said to run on {worker}"));
                }
            }
        }
    }

    /// The core accepted a job: its row is complete now.
    fn queued(&mut self, job: JobId, fair_start: Timestamp) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let Some(live) = scheduler.live.get_mut(&job) else {
            return;
        };
        live.row.fair_start = fair_start;
        let (pool, client) = (live.row.pool, live.row.client);
        scheduler.write_row(job);
        scheduler.note_queued(job);
        let (pool, client) = (self.pool_name(pool), self.client_id(client));
        let debt = self.disk.debt(pool.as_str(), client.as_str());
        if debt.is_some_and(|debt| fair_start < debt) {
            self.checker
                .violated(|| format!("job {job} starts before its client has paid: {debt:?}"));
        }
    }

    /// The attempt is on disk before the worker gets the job.
    fn give(&mut self, job: JobId, worker: WorkerId) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        scheduler.note_unqueued(job);
        let conn = scheduler.conns.get(&worker).copied();
        let session = conn.and_then(|conn| scheduler.sessions.get(&conn));
        let at = session.map(|session| session.worker);
        let (Some(conn), Some(at), Some(live)) = (conn, at, scheduler.live.get_mut(&job)) else {
            self.checker
                .violated(|| format!("job {job} was given to {worker}, which is not there"));
            return;
        };
        live.row.attempts += 1;
        live.row.state = State::Running { worker: at };
        live.conn = Some(conn);
        let attempt = live.row.attempts;
        let (first, client) = (attempt == 1, live.row.client);
        let running = scheduler.note_running(job, true);
        scheduler.write_row(job);
        scheduler.then(Then::Give { conn, job, attempt });
        if first {
            self.checker.taken(self.now, job);
        }
        let bounds = &self.plan.max_running;
        let own = bounds.of_client.get(&self.client_id(client)).copied();
        if let Some(bound) = own.or(bounds.general)
            && running > bound
        {
            self.checker
                .violated(|| format!("{running} jobs of client {client} run, {bound} may"));
        }
    }

    /// A job that has just been taken: nothing that only queue order decides about was passed over, and a worker that
    /// it avoids had no alternative.
    fn check_taken(&mut self, job: JobId, worker: WorkerId) {
        let from = self.scheduler.as_mut().and_then(|s| s.taken_from.take());
        let Some(scheduler) = &self.scheduler else {
            return;
        };
        let Some(live) = scheduler.live.get(&job) else {
            return;
        };
        let row = &live.row;
        let upstream = self.plan.pools.get(row.pool).map(|pool| pool.policy)
            == Some(ocluster_scheduling::Policy::Upstream);
        let in_order = !upstream || from == Some(TakenFrom::Main);
        let place = Scheduler::place(row, job);
        let plain = scheduler.plain.get(&row.pool);
        let before = plain.into_iter().flat_map(|plain| plain.range(..place));
        // Under `balanced` a job whose hint is cached may come before its turn, but not before urgent ones.
        let may_reach = !upstream && !row.hint.is_empty();
        let before = before.filter(|(patient, ..)| in_order && !(may_reach && *patient));
        for (_, _, other) in before.take(8) {
            let told = scheduler.cluster.explain(*other);
            if told.is_none_or(|told| told.waits == ocluster_scheduling::Waits::Main) {
                self.checker
                    .violated(|| format!("job {job} was taken before job {other}"));
                return;
            }
        }
        let conn = scheduler.conns.get(&worker);
        let at = conn.and_then(|conn| scheduler.sessions.get(conn));
        if !at.is_some_and(|session| row.avoid.contains(&session.worker)) {
            return;
        }
        let avoid: Vec<WorkerName> = row.avoid.iter().map(|at| self.worker_name(*at)).collect();
        let known = scheduler.cluster.known_workers(&self.pool_name(row.pool));
        let mut active = known.unwrap_or_default().into_iter();
        let other = active.find(|w| w.connected.is_some() && w.active && !avoid.contains(&w.name));
        if let Some(other) = other {
            self.checker
                .violated(|| format!("{worker} got job {job} though {} is there", other.name));
        }
    }

    /// No worker waits for a job while one waits which it may have.
    fn check_idle(&mut self) {
        let Some(scheduler) = &self.scheduler else {
            return;
        };
        for (at, _) in self.plan.pools.iter().enumerate() {
            let pool = self.pool_name(at);
            let Some(stats) = scheduler.cluster.pool_stats(&pool) else {
                continue;
            };
            if stats.ready == 0 || stats.incoming.total() == 0 {
                continue;
            }
            let Some(view) = scheduler.cluster.view(&pool) else {
                continue;
            };
            let active = |w: &&ocluster_scheduling::view::WorkerView| w.inactive.is_empty();
            let active: BTreeSet<usize> = view
                .workers
                .iter()
                .filter(active)
                .filter_map(|w| scheduler.conns.get(&w.id))
                .filter_map(|conn| scheduler.sessions.get(conn))
                .map(|session| session.worker)
                .collect();
            let ocluster_scheduling::view::MainView::Backlog(jobs) = &view.main else {
                continue;
            };
            for waiting in jobs {
                let avoid = scheduler.live.get(&waiting.job).map(|live| &live.row.avoid);
                let justified = avoid
                    .is_some_and(|avoid| !active.is_subset(avoid) && !active.is_disjoint(avoid));
                if !justified {
                    let job = waiting.job;
                    self.checker
                        .violated(|| format!("job {job} waits, and so do workers"));
                    return;
                }
            }
        }
    }

    pub(crate) fn resume_pop(&mut self, pop: PopId) {
        // It may have ended since it was woken.
        self.decide(Event::PopResumed { pop });
    }

    /// A job of the core's goes back to its queue, and its old place.
    pub(crate) fn requeue(&mut self, job: JobId) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        scheduler.note_queued(job);
        let Some(live) = scheduler.live.get_mut(&job) else {
            return;
        };
        live.in_core = true;
        let row = live.row.clone();
        let event = Event::Requeued {
            pool: self.pool_name(row.pool),
            client: self.client_id(row.client),
            job,
            hint: row.hint,
            urgent: row.urgent,
            fair_start: row.fair_start,
            avoid: row.avoid.iter().map(|at| self.worker_name(*at)).collect(),
        };
        self.must(event);
    }
}
