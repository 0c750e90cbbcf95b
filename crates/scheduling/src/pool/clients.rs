//! Clients: their rates, their fair starts, and what they have queued.
//!
//! A client's record begins with its first job or rate in this process; rates and debts outlive it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ClientId, JobId};
use crate::rate::Rate;
use crate::time::Timestamp;
use crate::view::Lengths;

/// Stands for a client that has a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientIndex(u32);

/// A client seen by this process.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) rate: Rate,
    /// The earliest fair start of its next job.
    pub(super) next_fair_start: Timestamp,
    /// How many jobs it has queued.
    pub(super) queued: Lengths,
    /// Which jobs these are.
    jobs: BTreeSet<JobId>,
}

/// What comes of a charge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charged {
    pub(super) client: ClientIndex,
    /// When the job may fairly start.
    pub(super) fair_start: Timestamp,
    /// The same of the client's next job.
    pub(super) next_fair_start: Timestamp,
}

/// All clients of a pool.
#[derive(Debug, Default)]
pub(super) struct Clients {
    rates: BTreeMap<ClientId, Rate>,
    /// The earliest fair starts known from records, of clients without one here.
    debts: BTreeMap<ClientId, Timestamp>,
    by_id: BTreeMap<ClientId, ClientIndex>,
    records: Vec<Option<Client>>,
    free: Vec<ClientIndex>,
}

impl Clients {
    /// Charges the client for one more job of this cost in seconds, and returns when the job may fairly start: idle
    /// time earns nothing, and each job moves the next one back by its cost divided by the rate.
    pub(super) fn charge(
        &mut self,
        now: Timestamp,
        id: &ClientId,
        job: JobId,
        urgent: bool,
        cost: u32,
    ) -> Charged {
        let at = self.enqueue(now, id, job, urgent);
        let mut charged = Charged {
            client: at,
            fair_start: now,
            next_fair_start: now,
        };
        if let Some(client) = self.get_mut(at) {
            charged.fair_start = now.max(client.next_fair_start);
            let share = f64::from(cost) / client.rate.get();
            client.next_fair_start = charged.fair_start.plus(share);
            charged.next_fair_start = client.next_fair_start;
        }
        charged
    }

    /// Counts one more queued job of the client, without a charge.
    pub(super) fn enqueue(
        &mut self,
        now: Timestamp,
        id: &ClientId,
        job: JobId,
        urgent: bool,
    ) -> ClientIndex {
        let at = self.record(now, id);
        if let Some(client) = self.get_mut(at)
            && client.jobs.insert(job)
        {
            *client.queued.count(urgent) += 1;
        }
        at
    }

    /// The job is no longer queued.
    pub(super) fn dequeue(&mut self, at: ClientIndex, job: JobId, urgent: bool) {
        if let Some(client) = self.get_mut(at)
            && client.jobs.remove(&job)
        {
            let count = client.queued.count(urgent);
            *count = count.saturating_sub(1);
        }
    }

    /// Sets the rate for later jobs.
    pub(super) fn set_rate(&mut self, now: Timestamp, id: ClientId, rate: Rate) {
        let at = self.record(now, &id);
        if let Some(client) = self.get_mut(at) {
            client.rate = rate;
        }
        self.rates.insert(id, rate);
    }

    /// Takes back a rate from a record. Does not make the client seen.
    pub(super) fn restore_rate(&mut self, id: ClientId, rate: Rate) {
        self.rates.insert(id, rate);
    }

    /// Takes back a debt from a record. Does not make the client seen.
    pub(super) fn restore_debt(&mut self, id: ClientId, next_fair_start: Timestamp) {
        if next_fair_start == Timestamp::default() {
            self.debts.remove(&id);
        } else {
            self.debts.insert(id, next_fair_start);
        }
    }

    /// Forgets the client's rate; tells whether it had one.
    pub(super) fn delete_rate(&mut self, id: &ClientId) -> bool {
        self.rates.remove(id).is_some()
    }

    /// The client's queued jobs, by number.
    pub(super) fn jobs(&self, id: &ClientId) -> Vec<JobId> {
        let client = self.by_id.get(id).and_then(|at| self.get(*at));
        client.map_or_else(Vec::new, |client| client.jobs.iter().copied().collect())
    }

    /// How many jobs the client has queued.
    pub(super) fn queued_by(&self, id: &ClientId) -> u64 {
        let client = self.by_id.get(id).and_then(|at| self.get(*at));
        client.map_or(0, |client| client.queued.total())
    }

    /// Drops the client's record and debt; it must have nothing queued. Tells whether it had any of them.
    pub(super) fn remove(&mut self, id: &ClientId) -> bool {
        let owed = self.debts.remove(id).is_some();
        let at = self.by_id.remove(id);
        if let Some(at) = at
            && let Some(slot) = self.records.get_mut(at.0 as usize)
        {
            *slot = None;
            self.free.push(at);
        }
        owed || at.is_some()
    }

    /// The name of a client.
    pub(super) fn id(&self, at: ClientIndex) -> ClientId {
        self.get(at)
            .map_or_else(|| ClientId::from(""), |client| client.id.clone())
    }

    /// The clients seen, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_id.values().filter_map(|at| self.get(*at))
    }

    fn record(&mut self, now: Timestamp, id: &ClientId) -> ClientIndex {
        if let Some(at) = self.by_id.get(id) {
            return *at;
        }
        let rate = self.rates.get(id).copied().unwrap_or_default();
        let debt = self.debts.remove(id);
        let client = Some(Client {
            id: id.clone(),
            rate,
            next_fair_start: debt.unwrap_or(now),
            queued: Lengths::default(),
            jobs: BTreeSet::new(),
        });
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(slot) = self.records.get_mut(at.0 as usize) {
                    *slot = client;
                }
                at
            }
            None => {
                self.records.push(client);
                // Clients are created by hand; the number cannot wrap.
                ClientIndex((self.records.len() - 1) as u32)
            }
        };
        self.by_id.insert(id.clone(), at);
        at
    }

    fn get(&self, at: ClientIndex) -> Option<&Client> {
        self.records.get(at.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, at: ClientIndex) -> Option<&mut Client> {
        self.records.get_mut(at.0 as usize)?.as_mut()
    }
}
