//! How many jobs of one client may run at once: what is above is held aside, in nobody's way.
//!
//! A job is *admitted* while it is queued as any other or runs. A client's admitted jobs are no more than its bound, unless
//! workers brought more of them along; those held come later in queue order than all that are admitted and queued, and
//! none is held while another one may be admitted. Without a bound nothing is counted here.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::RunningQuota;
use crate::ids::{ClientId, JobId};

use super::job::{Key, Place};
use super::out::Out;
use super::state::Pool;

/// What a client with a bound has in the pool.
#[derive(Debug, Default)]
struct Share {
    bound: usize,
    running: usize,
    /// Admitted and not yet running.
    queued: BTreeSet<Key>,
    held: BTreeSet<Key>,
}

impl Share {
    fn admitted(&self) -> usize {
        self.running + self.queued.len()
    }
}

/// The bounds of a pool, and the jobs of the clients that have one.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    bounds: RunningQuota,
    shares: BTreeMap<ClientId, Share>,
}

impl Quotas {
    pub(super) fn new(bounds: RunningQuota) -> Self {
        Self {
            bounds,
            shares: BTreeMap::new(),
        }
    }

    /// Whether any client has a bound.
    pub(super) fn in_force(&self) -> bool {
        self.bounds.general.is_some() || !self.bounds.of_client.is_empty()
    }

    /// How many jobs of this client may run at once, if that is bounded.
    pub(super) fn bound(&self, client: &ClientId) -> Option<u32> {
        let own = self.bounds.of_client.get(client).copied();
        own.or(self.bounds.general)
    }

    /// What is held, in queue order.
    pub(super) fn held(&self) -> BTreeSet<Key> {
        let all = self.shares.values().flat_map(|share| &share.held);
        all.copied().collect()
    }

    /// What is held of one client.
    pub(super) fn held_of(&self, client: &ClientId) -> Option<&BTreeSet<Key>> {
        self.shares.get(client).map(|share| &share.held)
    }

    fn share(&mut self, client: &ClientId) -> Option<&mut Share> {
        let bound = self.bound(client)? as usize;
        let share = self.shares.entry(client.clone()).or_default();
        share.bound = bound;
        Some(share)
    }
}

impl Pool {
    /// The client of a queued job, if any client has a bound.
    pub(super) fn bounded_client(&self, job: JobId) -> Option<ClientId> {
        let ticket = self.quotas.in_force().then(|| self.jobs.get(&job))??;
        Some(self.clients.id(ticket.client))
    }

    /// Whether a job that has just come may be queued as any other. If its client has as many already, either it is held
    /// or, in its stead, the last of those that are still queued.
    pub(super) fn admit(&mut self, key: Key) -> bool {
        let Some(client) = self.bounded_client(key.job()) else {
            return true;
        };
        let Some(share) = self.quotas.share(&client) else {
            return true;
        };
        share.queued.insert(key);
        self.hold_surplus(&client) != Some(key)
    }

    /// Holds what is above the client's bound, from the end of the queue; the last key held.
    fn hold_surplus(&mut self, client: &ClientId) -> Option<Key> {
        let mut held = None;
        while let Some(share) = self.quotas.shares.get_mut(client)
            && share.admitted() > share.bound
            && let Some(last) = share.queued.pop_last()
        {
            share.held.insert(last);
            self.take_off(last);
            if let Some(ticket) = self.jobs.get_mut(&last.job()) {
                ticket.place = Place::Held;
            }
            held = Some(last);
        }
        held
    }

    /// A job that was admitted begins to run.
    pub(super) fn count_started(&mut self, client: Option<&ClientId>, key: Key) {
        if let Some(share) = client.and_then(|client| self.quotas.share(client)) {
            share.queued.remove(&key);
            share.running += 1;
        }
    }

    /// A job runs that was not admitted. It counts, even if there are more than the bound now.
    pub(super) fn count_adopted(&mut self, client: &ClientId) {
        if let Some(share) = self.quotas.share(client) {
            share.running += 1;
            self.hold_surplus(client);
        }
    }

    /// A job of the client does not run any more.
    pub(super) fn count_ended(&mut self, out: &mut Out, client: Option<&ClientId>) {
        let Some(client) = client else { return };
        if let Some(share) = self.quotas.share(client) {
            share.running = share.running.saturating_sub(1);
        }
        self.release(out, client);
    }

    /// A job of the client, held or admitted, is not queued any more.
    pub(super) fn count_cancelled(&mut self, out: &mut Out, client: Option<&ClientId>, key: Key) {
        let Some(client) = client else { return };
        if let Some(share) = self.quotas.share(client) {
            share.queued.remove(&key);
            share.held.remove(&key);
        }
        self.release(out, client);
    }

    /// Admits what the client's bound now allows.
    fn release(&mut self, out: &mut Out, client: &ClientId) {
        while let Some(share) = self.quotas.shares.get_mut(client)
            && share.admitted() < share.bound
            && let Some(key) = share.held.pop_first()
        {
            share.queued.insert(key);
            self.add(out, key);
        }
        let done = |share: &Share| share.admitted() == 0 && share.held.is_empty();
        if self.quotas.shares.get(client).is_some_and(done) {
            self.quotas.shares.remove(client);
        }
    }
}
