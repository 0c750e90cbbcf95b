//! A naive model of the policy `upstream`: flat lists, walked from end to end for every question, so that it is easy to
//! believe. It shares nothing with the core but the types of its language.

use std::collections::{BTreeMap, BTreeSet};

use ocluster_scheduling::view::{ClientView, MainView, PoolView, QueuedJob, WorkerView};
use ocluster_scheduling::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Where {
    Main,
    Local(WorkerId, u32),
    Running(WorkerId),
    /// Above its client's bound.
    Held,
}

#[derive(Debug, Clone)]
struct Job {
    id: JobId,
    client: ClientId,
    hint: Hint,
    urgent: bool,
    fair_start: Timestamp,
    avoid: Vec<WorkerName>,
    at: Where,
}

#[derive(Debug, Clone)]
struct Worker {
    id: WorkerId,
    name: WorkerName,
    capacity: u32,
    reasons: BTreeSet<Reason>,
}

/// What the model and the core are compared by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    Wake(PopId),
    Give(PopId, JobId),
    End(PopId),
    Cancelled(JobId),
}

#[derive(Debug)]
pub(crate) struct Model {
    costs: Costs,
    max_running: RunningQuota,
    now: Timestamp,
    jobs: Vec<Job>,
    workers: Vec<Worker>,
    /// Every unanswered request with its worker, in the order in which they began to wait.
    waiting: Vec<(PopId, WorkerId)>,
    woken: Vec<(PopId, WorkerId)>,
    backlog: bool,
    known: BTreeMap<WorkerName, bool>,
    cached: BTreeSet<(Hint, WorkerName)>,
    rates: BTreeMap<ClientId, Rate>,
    clients: BTreeMap<ClientId, Timestamp>,
    out: Vec<Decision>,
}

type Answer = Result<(), ()>;

impl Model {
    pub(crate) fn new(costs: Costs, max_running: RunningQuota) -> Self {
        Self {
            costs,
            max_running,
            now: Timestamp::default(),
            jobs: Vec::new(),
            workers: Vec::new(),
            waiting: Vec::new(),
            woken: Vec::new(),
            backlog: true,
            known: BTreeMap::new(),
            cached: BTreeSet::new(),
            rates: BTreeMap::new(),
            clients: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn handle(&mut self, now: Timestamp, event: Event) -> (Vec<Decision>, bool) {
        self.now = now;
        let accepted = self.event(event).is_ok();
        (std::mem::take(&mut self.out), accepted)
    }

    fn event(&mut self, event: Event) -> Answer {
        match event {
            Event::Submitted {
                client,
                job,
                hint,
                urgent,
                ..
            } => {
                let waits = self.queued().any(|other| other.hint == hint);
                let known = self.cached.iter().any(|(cached, _)| *cached == hint);
                let cached = !hint.is_empty() && (waits || known);
                let cost = if cached {
                    self.costs.cached
                } else {
                    self.costs.non_cached
                };
                let rate = self.rates.get(&client).copied().unwrap_or_default();
                let next = self.clients.entry(client.clone()).or_insert(self.now);
                let fair_start = self.now.max(*next);
                *next = fair_start.plus(f64::from(cost) / rate.get());
                let at = Where::Main;
                self.jobs.push(Job {
                    id: job,
                    client,
                    hint,
                    urgent,
                    fair_start,
                    avoid: Vec::new(),
                    at,
                });
                self.enter(job);
            }
            Event::Requeued {
                client,
                job,
                hint,
                urgent,
                fair_start,
                avoid,
                ..
            } => {
                self.check_new(job)?;
                self.clients.entry(client.clone()).or_insert(self.now);
                self.jobs.push(Job {
                    id: job,
                    client,
                    hint,
                    urgent,
                    fair_start,
                    avoid,
                    at: Where::Main,
                });
                self.enter(job);
            }
            Event::Adopted {
                worker,
                job,
                client,
                hint,
            } => {
                self.check_new(job)?;
                let name = self.worker(worker).ok_or(())?.name.clone();
                self.cached.insert((hint.clone(), name));
                self.jobs.push(Job {
                    id: job,
                    client: client.clone(),
                    hint,
                    urgent: false,
                    fair_start: self.now,
                    avoid: Vec::new(),
                    at: Where::Running(worker),
                });
                self.hold_surplus(&client);
            }
            Event::Cancelled { job } => {
                let found = self.queued().find(|queued| queued.id == job);
                let client = found.ok_or(())?.client.clone();
                self.jobs.retain(|queued| queued.id != job);
                self.out.push(Decision::Cancelled(job));
                self.release(&client);
            }
            Event::Registered {
                worker,
                name,
                capacity,
                ..
            } => {
                if self.workers.iter().any(|other| other.name == name) {
                    return Err(());
                }
                let paused = *self.known.entry(name.clone()).or_insert(false);
                let mut reasons = BTreeSet::from([Reason::WorkerPause]);
                if paused {
                    reasons.insert(Reason::AdminPause);
                }
                self.workers.push(Worker {
                    id: worker,
                    name,
                    capacity,
                    reasons,
                });
            }
            Event::Asked { worker, pop } => {
                self.worker(worker).ok_or(())?;
                self.run(pop, worker);
            }
            Event::PopResumed { pop } => {
                let at = self
                    .woken
                    .iter()
                    .position(|woken| woken.0 == pop)
                    .ok_or(())?;
                let (_, worker) = self.woken.remove(at);
                self.run(pop, worker);
                // All others of this worker were woken too, found nothing, and wait again behind everybody.
                if self.is_active(worker) {
                    let (others, mut rest): (Vec<_>, Vec<_>) =
                        self.waiting.iter().partition(|waiting| waiting.1 == worker);
                    rest.extend(others);
                    self.waiting = rest;
                }
            }
            Event::PopWithdrawn { pop } => {
                let unanswered = self.waiting.iter().chain(&self.woken);
                let (_, worker) = *unanswered.clone().find(|known| known.0 == pop).ok_or(())?;
                let was_woken = self.woken.iter().any(|woken| woken.0 == pop);
                self.waiting.retain(|waiting| waiting.0 != pop);
                self.woken.retain(|woken| woken.0 != pop);
                let takers = self.woken.iter().filter(|woken| woken.1 == worker).count();
                let local = self.local(worker);
                let left = was_woken && self.is_active(worker) && local.len() > takers;
                if left && !self.wake_one(worker) && takers == 0 {
                    self.add(local[0]);
                }
            }
            Event::Finished { job } => {
                let at = self
                    .jobs
                    .iter()
                    .position(|known| known.id == job)
                    .ok_or(())?;
                if !matches!(self.jobs[at].at, Where::Running(_)) {
                    return Err(());
                }
                let client = self.jobs.remove(at).client;
                self.release(&client);
            }
            Event::WorkerPaused { worker, .. } => self.deactivate(worker, Reason::WorkerPause)?,
            Event::WorkerResumed { worker } => self.activate(worker, Reason::WorkerPause)?,
            Event::ShuttingDown { worker } => self.deactivate(worker, Reason::ShuttingDown)?,
            Event::ShutdownCleared { worker } => self.activate(worker, Reason::ShuttingDown)?,
            Event::AdminActive {
                name,
                active,
                auto_create,
                ..
            } => {
                if !self.known.contains_key(&name) && !auto_create {
                    return Err(());
                }
                self.known.insert(name.clone(), !active);
                if let Some(worker) = self.workers.iter().find(|worker| worker.name == name) {
                    let id = worker.id;
                    match active {
                        true => self.activate(id, Reason::AdminPause)?,
                        false => self.deactivate(id, Reason::AdminPause)?,
                    }
                }
            }
            Event::Left { worker } => {
                self.worker(worker).ok_or(())?;
                let gone = |list: &mut Vec<(PopId, WorkerId)>| {
                    let (gone, kept) = list.iter().partition(|pop| pop.1 == worker);
                    *list = kept;
                    gone
                };
                let mut ended: Vec<(PopId, WorkerId)> = gone(&mut self.woken);
                ended.sort();
                ended.extend(gone(&mut self.waiting));
                self.out
                    .extend(ended.into_iter().map(|(pop, _)| Decision::End(pop)));
                self.deactivate(worker, Reason::WorkerPause)?;
                self.workers.retain(|known| known.id != worker);
            }
            Event::Forgotten { name, .. } => {
                if self.workers.iter().any(|worker| worker.name == name) {
                    return Err(());
                }
                self.known.remove(&name).ok_or(())?;
            }
            Event::RateSet { client, rate, .. } => {
                self.clients.entry(client.clone()).or_insert(self.now);
                self.rates.insert(client, rate);
            }
            Event::ClientRemoved { client } => {
                let own = self.queued().filter(|job| job.client == client);
                let mut jobs: Vec<(bool, JobId)> =
                    own.map(|job| (job.at != Where::Held, job.id)).collect();
                jobs.sort();
                for (_, job) in jobs {
                    self.jobs.retain(|queued| queued.id != job);
                    self.out.push(Decision::Cancelled(job));
                }
                self.clients.remove(&client);
                self.rates.remove(&client);
            }
            Event::Tick => {}
        }
        Ok(())
    }

    fn bound(&self, client: &ClientId) -> Option<usize> {
        let own = self.max_running.of_client.get(client);
        let bound = own.copied().or(self.max_running.general)?;
        Some(bound as usize)
    }

    /// The client's jobs that are queued as any other, the next to run first; and how many run.
    fn admitted(&self, client: &ClientId) -> (Vec<JobId>, usize) {
        let own = |job: &JobId| self.job(*job).client == *client;
        let queued = self.at(|at| matches!(at, Where::Main | Where::Local(..)));
        let running = self.at(|at| matches!(at, Where::Running(_)));
        let running = running.iter().filter(|job| own(job)).count();
        (queued.into_iter().filter(own).collect(), running)
    }

    /// Of all jobs above the bound, the new one among them, it is the last that do not come in.
    fn enter(&mut self, job: JobId) {
        let client = self.job(job).client.clone();
        self.hold_surplus(&client);
        if self.job(job).at != Where::Held {
            self.add(job);
        }
    }

    fn hold_surplus(&mut self, client: &ClientId) {
        let Some(bound) = self.bound(client) else {
            return;
        };
        loop {
            let (mut queued, running) = self.admitted(client);
            if queued.len() + running <= bound {
                return;
            }
            let Some(last) = queued.pop() else { return };
            self.put(last, Where::Held);
        }
    }

    fn release(&mut self, client: &ClientId) {
        let Some(bound) = self.bound(client) else {
            return;
        };
        loop {
            let (queued, running) = self.admitted(client);
            let held = self.at(|at| at == Where::Held).into_iter();
            let mut held = held.filter(|job| self.job(*job).client == *client);
            let first = held.next().filter(|_| queued.len() + running < bound);
            let Some(first) = first else { return };
            self.add(first);
        }
    }

    fn check_new(&self, job: JobId) -> Answer {
        match self.jobs.iter().any(|known| known.id == job) {
            true => Err(()),
            false => Ok(()),
        }
    }

    /// Whether this worker is avoided by this job, and others are there.
    fn is_kept_from(&self, job: JobId, worker: WorkerId) -> bool {
        let avoid = &self.job(job).avoid;
        let mut active = self.workers.iter().filter(|w| w.reasons.is_empty());
        self.worker(worker)
            .is_some_and(|worker| avoid.contains(&worker.name))
            && active.any(|worker| !avoid.contains(&worker.name))
    }

    fn queued(&self) -> impl Iterator<Item = &Job> {
        self.jobs
            .iter()
            .filter(|job| !matches!(job.at, Where::Running(_)))
    }

    fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.id == id)
    }

    fn is_active(&self, id: WorkerId) -> bool {
        self.worker(id)
            .is_some_and(|worker| worker.reasons.is_empty())
    }

    /// The jobs at a place, in queue order.
    fn at(&self, is_there: impl Fn(Where) -> bool) -> Vec<JobId> {
        let mut jobs: Vec<&Job> = self.jobs.iter().filter(|job| is_there(job.at)).collect();
        jobs.sort_by_key(|job| (!job.urgent, job.fair_start, job.id));
        jobs.into_iter().map(|job| job.id).collect()
    }

    fn local(&self, worker: WorkerId) -> Vec<JobId> {
        self.at(|at| matches!(at, Where::Local(there, _) if there == worker))
    }

    fn workload(&self, worker: WorkerId) -> u32 {
        let costs = self.jobs.iter().filter_map(|job| match job.at {
            Where::Local(there, cost) if there == worker => Some(cost),
            _ => None,
        });
        costs.sum()
    }

    fn job(&self, job: JobId) -> &Job {
        self.jobs.iter().find(|known| known.id == job).unwrap()
    }

    fn hint(&self, job: JobId) -> Hint {
        self.job(job).hint.clone()
    }

    fn put(&mut self, job: JobId, at: Where) {
        self.jobs
            .iter_mut()
            .find(|known| known.id == job)
            .unwrap()
            .at = at;
    }

    /// The requests of active workers, which is what the ready list holds.
    fn ready(&self) -> Vec<(PopId, WorkerId)> {
        self.waiting
            .iter()
            .copied()
            .filter(|(_, worker)| self.is_active(*worker))
            .collect()
    }

    fn add(&mut self, job: JobId) {
        self.put(job, Where::Main);
        let ready = self.ready().into_iter();
        let mut allowed = ready.filter(|(_, worker)| !self.is_kept_from(job, *worker));
        let Some((_, worker)) = allowed.next() else {
            self.backlog = true;
            return;
        };
        if !self.assign_preferred(job) {
            let name = self.worker(worker).unwrap().name.clone();
            self.cached.insert((self.hint(job), name));
            self.put(job, Where::Local(worker, self.costs.non_cached));
            self.wake_one(worker);
        }
    }

    fn assign_preferred(&mut self, job: JobId) -> bool {
        let hint = self.hint(job);
        if hint.is_empty() {
            return false;
        }
        let mut best: Option<&Worker> = None;
        for (_, name) in self.cached.iter().filter(|(cached, _)| *cached == hint) {
            let connected = self.workers.iter().find(|worker| worker.name == *name);
            let Some(worker) = connected.filter(|worker| worker.reasons.is_empty()) else {
                continue;
            };
            let much = self.workload(worker.id) > self.costs.non_cached;
            if much || self.is_kept_from(job, worker.id) {
                continue;
            }
            let keeps = best.is_some_and(|b| self.workload(b.id) < self.workload(worker.id));
            if !keeps {
                best = Some(worker);
            }
        }
        let Some(worker) = best.map(|worker| worker.id) else {
            return false;
        };
        self.put(job, Where::Local(worker, self.costs.cached));
        self.wake_one(worker);
        true
    }

    fn wake_one(&mut self, worker: WorkerId) -> bool {
        let Some(at) = self.waiting.iter().position(|pop| pop.1 == worker) else {
            return false;
        };
        let pop = self.waiting.remove(at);
        self.woken.push(pop);
        self.out.push(Decision::Wake(pop.0));
        true
    }

    fn run(&mut self, pop: PopId, worker: WorkerId) {
        loop {
            if !self.is_active(worker) {
                self.waiting.push((pop, worker));
                return;
            }
            if let Some(job) = self.local(worker).first() {
                return self.accept(pop, worker, *job);
            }
            let jobs = self.at(|at| at == Where::Main).into_iter();
            let mut allowed = jobs.filter(|job| !self.is_kept_from(*job, worker));
            let Some(job) = allowed.next() else {
                self.backlog = false;
                self.waiting.push((pop, worker));
                return;
            };
            if !self.assign_preferred(job) {
                return self.accept(pop, worker, job);
            }
        }
    }

    fn accept(&mut self, pop: PopId, worker: WorkerId, job: JobId) {
        let name = self.worker(worker).unwrap().name.clone();
        self.cached.insert((self.hint(job), name));
        self.put(job, Where::Running(worker));
        self.out.push(Decision::Give(pop, job));
    }

    fn deactivate(&mut self, worker: WorkerId, reason: Reason) -> Answer {
        let found = self
            .workers
            .iter_mut()
            .find(|known| known.id == worker)
            .ok_or(())?;
        found.reasons.insert(reason);
        for job in self.local(worker) {
            self.add(job);
        }
        // What waited for this one may be all that others have to do.
        for job in self.at(|at| at == Where::Main) {
            let is_free = |ready: &(PopId, WorkerId)| !self.is_kept_from(job, ready.1);
            if self.ready().iter().any(is_free) {
                self.add(job);
            }
        }
        Ok(())
    }

    fn activate(&mut self, worker: WorkerId, reason: Reason) -> Answer {
        let found = self
            .workers
            .iter_mut()
            .find(|known| known.id == worker)
            .ok_or(())?;
        let was_active = found.reasons.is_empty();
        found.reasons.remove(&reason);
        if !was_active && found.reasons.is_empty() {
            while self.wake_one(worker) {}
            // Jobs for which there had been nobody else can do better now.
            for job in self.at(|at| matches!(at, Where::Local(..))) {
                match self.job(job).at {
                    Where::Local(at, _) if self.is_kept_from(job, at) => self.add(job),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The same picture the core gives of itself.
    pub(crate) fn view(&self, name: &PoolName) -> PoolView {
        let show = |ids: Vec<JobId>| -> Vec<QueuedJob> {
            let jobs = ids
                .into_iter()
                .map(|id| self.jobs.iter().find(|job| job.id == id).unwrap());
            jobs.map(|job| QueuedJob {
                job: job.id,
                client: job.client.clone(),
                hint: job.hint.clone(),
                urgent: job.urgent,
                fair_start: job.fair_start,
                cost: match job.at {
                    Where::Local(_, cost) => Some(cost),
                    _ => None,
                },
            })
            .collect()
        };
        let jobs = self.at(|at| at == Where::Main);
        let jobs_wait = self.backlog && self.ready().is_empty() || !jobs.is_empty();
        let main = if jobs_wait {
            MainView::Backlog(show(jobs))
        } else {
            let ready = self.ready().into_iter();
            MainView::Ready(
                ready
                    .map(|(_, w)| self.worker(w).unwrap().name.clone())
                    .collect(),
            )
        };
        let mut workers: Vec<WorkerView> = Vec::new();
        for worker in &self.workers {
            let running = self
                .jobs
                .iter()
                .filter(|job| job.at == Where::Running(worker.id));
            let reasons = worker
                .reasons
                .iter()
                .fold(Reasons::NONE, |all, one| all.with(*one));
            workers.push(WorkerView {
                id: worker.id,
                name: worker.name.clone(),
                capacity: worker.capacity,
                inactive: reasons,
                pause_note: None,
                pause: None,
                workload: u64::from(self.workload(worker.id)),
                queue: show(self.local(worker.id)),
                running: running.count() as u32,
            });
        }
        workers.sort_by(|a, b| a.name.cmp(&b.name));
        let connected = |name: &WorkerName| self.workers.iter().any(|worker| worker.name == *name);
        let away = self.known.iter().filter(|(name, _)| !connected(name));
        let disconnected = away.map(|(name, paused)| view::KnownWorker {
            name: name.clone(),
            connected: None,
            active: !paused,
            pause: None,
        });
        let clients = self.clients.iter().map(|(id, next)| ClientView {
            id: id.clone(),
            rate: self.rates.get(id).copied().unwrap_or_default(),
            next_fair_start: *next,
        });
        PoolView {
            name: name.clone(),
            policy: Policy::Upstream,
            capacity: self
                .workers
                .iter()
                .map(|worker| u64::from(worker.capacity))
                .sum(),
            main,
            held: show(self.at(|at| at == Where::Held)),
            workers,
            disconnected: disconnected.collect(),
            clients: clients.collect(),
        }
    }
}
