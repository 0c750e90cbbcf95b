//! Pictures of a pool, for people and for metrics. Changes nothing.

use std::collections::BTreeSet;

use crate::ids::{ClientId, Hint, WorkerId, WorkerName};
use crate::reasons::Reasons;
use crate::view::{ClientView, KnownWorker, MainView, PoolStats, PoolView, QueuedJob, WorkerView};

use super::job::{Key, Place};
use super::state::{Main, Pool};
use super::worker::{Occupant, Worker};

impl Pool {
    pub(crate) fn view(&self) -> PoolView {
        let mut wait: BTreeSet<Key> = self.avoidance.on_main().collect();
        wait.extend(&self.backlog);
        let jobs_wait = self.main == Main::Backlog && self.ready.is_empty() || !wait.is_empty();
        let main = match jobs_wait {
            true => MainView::Backlog(self.queue(&wait)),
            false => {
                let waiting = self.ready.values().filter_map(|pop| self.pops.get(pop));
                MainView::Ready(waiting.map(|pop| self.workers.name(pop.seat)).collect())
            }
        };
        let mut workers = Vec::new();
        let mut disconnected = Vec::new();
        for occupant in self.workers.iter() {
            match &occupant.worker {
                Some(worker) => workers.push(self.worker_view(occupant, worker)),
                None => disconnected.extend(known(occupant)),
            }
        }
        let clients = self.clients.iter().map(|client| ClientView {
            id: client.id.clone(),
            rate: client.rate,
            next_fair_start: client.next_fair_start,
        });
        PoolView {
            name: self.name.clone(),
            policy: self.policy,
            capacity: self.totals.capacity,
            main,
            held: self.queue(&self.quotas.held()),
            workers,
            disconnected,
            clients: clients.collect(),
        }
    }

    fn worker_view(&self, occupant: &Occupant, worker: &Worker) -> WorkerView {
        WorkerView {
            id: worker.id,
            name: occupant.name.clone(),
            capacity: worker.capacity,
            inactive: worker.reasons,
            pause_note: worker.pause_note.clone(),
            pause: occupant.pause.clone(),
            workload: worker.workload,
            queue: self.queue(&worker.local),
            running: worker.running,
        }
    }

    fn queue(&self, keys: &BTreeSet<Key>) -> Vec<QueuedJob> {
        let jobs = keys.iter().filter_map(|key| {
            let ticket = self.jobs.get(&key.job())?;
            Some(QueuedJob {
                job: key.job(),
                client: self.clients.id(ticket.client),
                hint: self.hints.hint(ticket.hint),
                urgent: key.urgent(),
                fair_start: key.fair_start(),
                cost: match ticket.place {
                    Place::Main | Place::Held => None,
                    Place::Local { cost, .. } => Some(cost),
                },
            })
        });
        jobs.collect()
    }

    pub(crate) fn cached_hints(&self) -> Vec<(Hint, Vec<WorkerName>)> {
        let hints = self.hints.cached().map(|(hint, rows)| {
            let mut names: Vec<_> = rows
                .iter()
                .map(|(seat, _)| self.workers.name(*seat))
                .collect();
            names.sort();
            (hint.clone(), names)
        });
        hints.collect()
    }

    pub(crate) fn known_workers(&self) -> Vec<KnownWorker> {
        self.workers.iter().filter_map(known).collect()
    }

    pub(crate) fn connected(&self, name: &WorkerName) -> Option<WorkerId> {
        let seat = self.workers.find(name)?;
        self.workers.get(seat).map(|worker| worker.id)
    }

    pub(crate) fn reasons(&self, worker: WorkerId) -> Option<Reasons> {
        let seat = self.workers.of_id(worker)?;
        self.workers.get(seat).map(|worker| worker.reasons)
    }

    pub(crate) fn running_on(&self, worker: WorkerId) -> Option<u32> {
        match self.workers.of_id(worker) {
            Some(seat) => self.workers.get(seat).map(|worker| worker.running),
            None => self
                .workers
                .departed
                .get(&worker)
                .map(|(_, running)| *running),
        }
    }

    pub(crate) fn queued_by(&self, client: &ClientId) -> u64 {
        self.clients.queued_by(client)
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let local = self.workers.iter().filter_map(|occupant| {
            occupant
                .worker
                .as_ref()
                .map(|worker| (occupant.name.clone(), worker.lengths))
        });
        PoolStats {
            submitted: self.totals.submitted,
            accepted: self.totals.accepted,
            cancelled: self.totals.cancelled,
            connected: self.workers.connected() as u64,
            capacity: self.totals.capacity,
            ready: self.ready.len() as u64,
            paused: self.totals.paused,
            running: self.running.len() as u64,
            incoming: self.incoming,
            local: local.collect(),
            clients: self
                .clients
                .iter()
                .map(|c| (c.id.clone(), c.queued))
                .collect(),
        }
    }
}

/// What is remembered under a name that is known.
fn known(occupant: &Occupant) -> Option<KnownWorker> {
    let paused = occupant.paused?;
    let worker = occupant.worker.as_ref();
    Some(KnownWorker {
        name: occupant.name.clone(),
        connected: worker.map(|worker| worker.id),
        active: worker.map_or(!paused, Worker::is_active),
        pause: occupant.pause.clone(),
    })
}
