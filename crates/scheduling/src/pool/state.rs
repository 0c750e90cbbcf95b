//! The state of one pool, and the small steps from which every decision is made.
//!
//! Either jobs wait on the main queue, or workers do; both at once only if those workers are avoided by those jobs.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Costs, PoolConfig, RunningQuota};
use crate::ids::{JobId, PoolName, PopId, WorkerId};
use crate::policy::Policy;
use crate::record::Record;
use crate::time::{Day, Timestamp};
use crate::view::Lengths;

use super::avoid::Avoidance;
use super::clients::Clients;
use super::hints::{HintIndex, Hints};
use super::index::Indexes;
use super::job::{Key, Place, Running, Ticket};
use super::out::Out;
use super::quota::Quotas;
use super::worker::{Seat, Workers};

/// Which of the two lists is in use. An empty ready list stays one until a job comes, as `show` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Main {
    Backlog,
    Ready,
}

/// A request for work that has not been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pop {
    pub(super) seat: Seat,
    /// Its turn while it waits; `None` once it was told to run.
    pub(super) turn: Option<u64>,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) name: PoolName,
    pub(super) policy: Policy,
    pub(super) costs: Costs,
    pub(super) hint_max_age: Option<u32>,
    /// Queued jobs.
    pub(super) jobs: BTreeMap<JobId, Ticket>,
    pub(super) running: BTreeMap<JobId, Running>,
    pub(super) main: Main,
    /// The main queue, without the jobs that avoid workers.
    pub(super) backlog: BTreeSet<Key>,
    pub(super) avoidance: Avoidance,
    pub(super) incoming: Lengths,
    /// The requests that wait for a job, by turn.
    pub(super) ready: BTreeMap<u64, PopId>,
    pub(super) pops: BTreeMap<PopId, Pop>,
    pub(super) next_turn: u64,
    pub(super) workers: Workers,
    pub(super) hints: Hints,
    pub(super) clients: Clients,
    pub(super) quotas: Quotas,
    pub(super) indexes: Indexes,
    pub(super) patience: Patience,
    pub(super) totals: Totals,
}

/// Figures kept up to date for metrics.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    pub(super) cancelled: u64,
    pub(super) capacity: u64,
    pub(super) paused: u64,
}

/// Until when each job left to a busy worker waits there (`balanced` only).
#[derive(Debug, Default)]
pub(super) struct Patience {
    by_job: BTreeMap<JobId, Timestamp>,
    by_time: BTreeSet<(Timestamp, JobId)>,
}

impl Patience {
    pub(super) fn begin(&mut self, job: JobId, until: Timestamp) {
        self.end(job);
        self.by_job.insert(job, until);
        self.by_time.insert((until, job));
    }

    pub(super) fn end(&mut self, job: JobId) {
        if let Some(until) = self.by_job.remove(&job) {
            self.by_time.remove(&(until, job));
        }
    }

    /// A job that has waited long enough.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<JobId> {
        self.by_time
            .first()
            .filter(|(until, _)| *until <= now)
            .map(|(_, job)| *job)
    }
}

impl Pool {
    pub(crate) fn new(
        config: PoolConfig,
        costs: Costs,
        hint_max_age: Option<u32>,
        max_running: RunningQuota,
    ) -> Self {
        Self {
            name: config.name,
            policy: config.policy,
            costs,
            hint_max_age,
            jobs: BTreeMap::new(),
            running: BTreeMap::new(),
            main: Main::Backlog,
            backlog: BTreeSet::new(),
            avoidance: Avoidance::default(),
            incoming: Lengths::default(),
            ready: BTreeMap::new(),
            pops: BTreeMap::new(),
            next_turn: 0,
            workers: Workers::default(),
            hints: Hints::default(),
            clients: Clients::default(),
            quotas: Quotas::new(max_running),
            indexes: Indexes::default(),
            patience: Patience::default(),
            totals: Totals::default(),
        }
    }

    pub(crate) fn restore(&mut self, fact: Record) {
        match fact {
            Record::KnownWorker {
                name,
                paused,
                pause,
                ..
            } => self.remember(&name, Some(paused), pause),
            Record::Debt {
                client,
                next_fair_start,
                ..
            } => self.clients.restore_debt(client, next_fair_start),
            Record::ForgottenWorker { name, .. } => self.remember(&name, None, None),
            Record::CachedHint {
                hint, worker, day, ..
            } => {
                let seat = self.workers.seat(&worker);
                let at = self.hints.restore(hint, seat, day);
                if let Some(occupant) = self.workers.occupant_mut(seat) {
                    occupant.recent.note(at, true);
                }
            }
            Record::ExpiredHint { hint, worker, .. } => {
                let seat = self.workers.seat(&worker);
                self.hints.uncache(&hint, seat);
            }
            Record::Rate { client, rate, .. } => self.clients.restore_rate(client, rate),
            Record::RateDeleted { client, .. } => {
                self.clients.delete_rate(&client);
            }
        }
    }

    pub(crate) fn has_job(&self, job: JobId) -> bool {
        self.has_queued(job) || self.has_running(job)
    }

    pub(crate) fn has_queued(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    pub(crate) fn has_running(&self, job: JobId) -> bool {
        self.running.contains_key(&job)
    }

    pub(crate) fn has_worker(&self, worker: WorkerId) -> bool {
        self.workers.of_id(worker).is_some()
    }

    pub(crate) fn has_pop(&self, pop: PopId) -> bool {
        self.pops.contains_key(&pop)
    }

    /// Puts a job that is on no queue on the main one.
    pub(super) fn put_on_main(&mut self, key: Key) {
        if let Some(ticket) = self.jobs.get_mut(&key.job()) {
            ticket.place = Place::Main;
            if ticket.wary {
                self.avoidance.put_on_main(key);
            } else {
                self.backlog.insert(key);
                if self.policy == Policy::Balanced {
                    self.hints.line_up(ticket.hint, key);
                }
            }
        }
        *self.incoming.count(key.urgent()) += 1;
    }

    /// Puts a job that is on no queue on the local one of a connected worker.
    pub(super) fn put_on_local(&mut self, key: Key, seat: Seat, cost: u32) {
        if let Some(ticket) = self.jobs.get_mut(&key.job()) {
            ticket.place = Place::Local { seat, cost };
            if ticket.wary {
                self.avoidance.put_on_local(key, seat);
            }
        }
        if let Some(worker) = self.workers.get_mut(seat) {
            worker.local.insert(key);
            *worker.lengths.count(key.urgent()) += 1;
            worker.workload += u64::from(cost);
        }
        self.refresh(seat);
    }

    /// Takes a job off the queue it is on.
    pub(super) fn take_off(&mut self, key: Key) {
        let Some(ticket) = self.jobs.get_mut(&key.job()) else {
            return;
        };
        match std::mem::replace(&mut ticket.place, Place::Main) {
            Place::Main => {
                let found = if ticket.wary {
                    self.avoidance.take_off_main(key)
                } else {
                    if self.policy == Policy::Balanced {
                        self.hints.leave_line(ticket.hint, key);
                    }
                    self.backlog.remove(&key)
                };
                if found {
                    *self.incoming.count(key.urgent()) -= 1;
                }
            }
            Place::Local { seat, cost } => {
                self.patience.end(key.job());
                if ticket.wary {
                    self.avoidance.take_off_local(key, seat);
                }
                if let Some(worker) = self.workers.get_mut(seat)
                    && worker.local.remove(&key)
                {
                    *worker.lengths.count(key.urgent()) -= 1;
                    worker.workload -= u64::from(cost);
                }
                self.refresh(seat);
            }
            Place::Held => {}
        }
    }

    /// The hint of a queued job.
    pub(super) fn hint_of(&self, key: Key) -> Option<HintIndex> {
        self.jobs.get(&key.job()).map(|ticket| ticket.hint)
    }

    /// Notes that a worker has a hint cached as of today.
    pub(super) fn note_cached(&mut self, out: &mut Out, hint: HintIndex, seat: Seat) {
        let day: Day = out.now.day();
        if let Some(occupant) = self.workers.occupant_mut(seat) {
            occupant.recent.note(hint, false);
        }
        if self.hints.cache(hint, seat, day) {
            out.persist(Record::CachedHint {
                pool: self.name.clone(),
                hint: self.hints.hint(hint),
                worker: self.workers.name(seat),
                day,
            });
        }
    }
}
