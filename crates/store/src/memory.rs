//! A store that forgets when it is dropped: for tests, simulations and trials.
//!
//! It is written in the plainest way, so that it also serves as the model the other adapters are compared with. It
//! must never look like a store that keeps anything: programs say so when they use it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    Change, Client, Debt, Hint, JobId, JobMatch, JobPage, JobRecord, KnownWorker, Pause, Rate,
    Snapshot, Store, StoreError,
};

/// A [`Store`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    workers: BTreeMap<(String, String), (bool, Option<Pause>)>,
    debts: BTreeMap<(String, String), f64>,
    descriptions: BTreeMap<JobId, Vec<u8>>,
    hints: BTreeMap<(String, String, String), u32>,
    rates: BTreeMap<(String, String), f64>,
    clients: BTreeMap<[u8; 32], (String, u32)>,
    jobs: BTreeMap<JobId, JobRecord>,
    /// Clients' own keys for their jobs.
    keys: BTreeMap<(String, String), JobId>,
    next_job_id: JobId,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and each change leaves a whole state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::WorkerKnown {
                pool,
                name,
                paused,
                pause,
            } => {
                self.workers.insert((pool, name), (paused, pause));
            }
            Change::DebtSet {
                pool,
                client,
                next_fair_start,
            } => {
                self.debts.insert((pool, client), next_fair_start);
            }
            Change::WorkerForgotten { pool, name } => {
                self.workers.remove(&(pool, name));
            }
            Change::HintCached {
                pool,
                hint,
                worker,
                day,
            } => {
                self.hints.insert((pool, hint, worker), day);
            }
            Change::HintDropped { pool, hint, worker } => {
                self.hints.remove(&(pool, hint, worker));
            }
            Change::HintsDroppedBefore { day } => self.hints.retain(|_, cached| *cached >= day),
            Change::RateSet { pool, client, rate } => {
                self.rates.insert((pool, client), rate);
            }
            Change::RateDropped { pool, client } => {
                self.rates.remove(&(pool, client));
            }
            Change::ClientAdded {
                hash,
                client,
                created_day,
            } => {
                self.clients.insert(hash, (client, created_day));
            }
            Change::ClientRemoved { client } => {
                self.clients.retain(|_, (name, _)| *name != client);
                self.rates.retain(|(_, name), _| *name != client);
                self.debts.retain(|(_, name), _| *name != client);
            }
            Change::JobAccepted {
                record,
                description,
            } => {
                self.descriptions.insert(record.id, description);
                self.record(*record);
            }
            Change::JobRecorded(record) => self.record(*record),
            Change::JobDropped { id } => {
                self.descriptions.remove(&id);
                self.drop_record(id);
            }
            Change::JobIdsReserved { next } => {
                self.next_job_id = self.next_job_id.max(JobId::new(next));
            }
        }
    }
}

impl State {
    fn record(&mut self, record: JobRecord) {
        if record.state.is_ended() {
            self.descriptions.remove(&record.id);
        }
        self.drop_record(record.id);
        if let Some(key) = &record.key {
            self.keys
                .insert((record.client.clone(), key.clone()), record.id);
        }
        self.jobs.insert(record.id, record);
    }

    fn drop_record(&mut self, id: JobId) {
        let Some(old) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(key) = old.key {
            let named = (old.client, key);
            // The key may have passed to another job since.
            if self.keys.get(&named) == Some(&id) {
                self.keys.remove(&named);
            }
        }
    }
}

impl Store for MemoryStore {
    fn load(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        let state = self.state();
        let mut snapshot = Snapshot {
            workers: state
                .workers
                .iter()
                .map(|((pool, name), (paused, pause))| KnownWorker {
                    pool: pool.clone(),
                    name: name.clone(),
                    paused: *paused,
                    pause: pause.clone(),
                })
                .collect(),
            hints: state
                .hints
                .iter()
                .filter(|(_, day)| **day >= min_day)
                .map(|((pool, hint, worker), day)| Hint {
                    pool: pool.clone(),
                    hint: hint.clone(),
                    worker: worker.clone(),
                    day: *day,
                })
                .collect(),
            rates: state
                .rates
                .iter()
                .map(|((pool, client), rate)| Rate {
                    pool: pool.clone(),
                    client: client.clone(),
                    rate: *rate,
                })
                .collect(),
            debts: state
                .debts
                .iter()
                .map(|((pool, client), next_fair_start)| Debt {
                    pool: pool.clone(),
                    client: client.clone(),
                    next_fair_start: *next_fair_start,
                })
                .collect(),
            clients: state
                .clients
                .iter()
                .map(|(hash, (client, created_day))| Client {
                    client: client.clone(),
                    hash: *hash,
                    created_day: *created_day,
                })
                .collect(),
            open_jobs: state
                .jobs
                .values()
                .filter(|job| !job.state.is_ended())
                .cloned()
                .collect(),
            next_job_id: state.next_job_id,
        };
        snapshot.sort();
        Ok(snapshot)
    }

    fn apply(&self, batch: &[Change]) -> Result<(), StoreError> {
        let mut state = self.state();
        for change in batch {
            state.apply(change);
        }
        Ok(())
    }

    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        Ok(self.state().jobs.get(&id).cloned())
    }

    fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().descriptions.get(&id).cloned())
    }

    fn job_by_key(&self, client: &str, key: &str) -> Result<Option<JobRecord>, StoreError> {
        let state = self.state();
        let id = state.keys.get(&(client.to_owned(), key.to_owned()));
        Ok(id.and_then(|id| state.jobs.get(id)).cloned())
    }

    fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        let state = self.state();
        Ok(state
            .jobs
            .values()
            .rev()
            .filter(|job| before.is_none_or(|before| job.id < before))
            .take(limit)
            .cloned()
            .collect())
    }

    fn jobs_matching(
        &self,
        filter: &JobMatch,
        before: Option<JobId>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, StoreError> {
        let state = self.state();
        let Some((first, last)) = filter.range(before) else {
            return Ok(JobPage::default());
        };
        let records = state
            .jobs
            .range(first..=last)
            .rev()
            .map(|(_, record)| record);
        let looked_at = records.filter(|record| filter.wants(record.state.is_ended()));
        filter.page(looked_at.map(|record| Ok(record.clone())), limit, scan)
    }

    fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        let mut state = self.state();
        let before = state.jobs.len();
        let mut kept = 0;
        let mut doomed = Vec::new();
        for job in state.jobs.values().rev().filter(|job| job.state.is_ended()) {
            let too_old = job.times.ended.is_some_and(|ended| ended < ended_before_ms);
            if too_old || kept == keep {
                doomed.push(job.id);
            } else {
                kept += 1;
            }
        }
        for id in doomed {
            state.drop_record(id);
        }
        Ok((before - state.jobs.len()) as u64)
    }

    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
