//! Jobs that came to nothing on some workers, and shall rather run on others.
//!
//! Such a job gets no worker which it avoids while any other active worker is there, however busy: it is *kept from* them.
//! On the main queue, jobs which avoid the same workers lie together, so that a worker that asks passes them over at once.
//! Never keeps a job from all workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::{JobId, WorkerName};

use super::job::Key;
use super::out::Out;
use super::state::Pool;
use super::worker::Seat;

/// Some workers, in order of their seats.
pub(super) type Seats = Arc<[Seat]>;

/// The queued jobs that avoid workers.
#[derive(Debug, Default)]
pub(super) struct Avoidance {
    /// What each of them avoids.
    of_job: BTreeMap<JobId, Seats>,
    /// Those on the main queue, by what they avoid.
    main: BTreeMap<Seats, BTreeSet<Key>>,
    /// Those on local queues.
    local: BTreeSet<(Seat, Key)>,
}

impl Avoidance {
    /// Notes what a job avoids that is on no queue.
    pub(super) fn begin(&mut self, job: JobId, avoided: BTreeSet<Seat>) {
        self.of_job.insert(job, avoided.into_iter().collect());
    }

    /// Forgets a job that is on no queue any more.
    pub(super) fn end(&mut self, job: JobId) {
        self.of_job.remove(&job);
    }

    pub(super) fn put_on_main(&mut self, key: Key) {
        if let Some(avoided) = self.of_job.get(&key.job()) {
            self.main.entry(avoided.clone()).or_default().insert(key);
        }
    }

    /// Tells whether it was there.
    pub(super) fn take_off_main(&mut self, key: Key) -> bool {
        let Some(avoided) = self.of_job.get(&key.job()) else {
            return false;
        };
        let Some(keys) = self.main.get_mut(avoided) else {
            return false;
        };
        let found = keys.remove(&key);
        if keys.is_empty() {
            self.main.remove(avoided);
        }
        found
    }

    pub(super) fn put_on_local(&mut self, key: Key, seat: Seat) {
        self.local.insert((seat, key));
    }

    pub(super) fn take_off_local(&mut self, key: Key, seat: Seat) {
        self.local.remove(&(seat, key));
    }

    /// The jobs on the main queue, each group in order.
    pub(super) fn on_main(&self) -> impl Iterator<Item = Key> {
        self.main.values().flatten().copied()
    }

    /// Those of them before this one.
    pub(super) fn on_main_before(&self, key: Key) -> impl Iterator<Item = Key> {
        self.main
            .values()
            .flat_map(move |keys| keys.range(..key).copied())
    }

    /// The first on the local queue of this worker.
    pub(super) fn first_on(&self, seat: Seat) -> Option<Key> {
        let from = self.local.range((seat, Key::FIRST)..).next()?;
        (from.0 == seat).then_some(from.1)
    }
}

impl Pool {
    /// The seats of these workers, whether they are known or not.
    pub(super) fn seats(&mut self, names: &[WorkerName]) -> BTreeSet<Seat> {
        names.iter().map(|name| self.workers.seat(name)).collect()
    }

    /// The workers this job is kept from at the moment.
    pub(super) fn kept_from(&self, key: Key) -> Option<Seats> {
        let wary = self.jobs.get(&key.job()).is_some_and(|job| job.wary);
        let avoided = wary.then(|| self.avoidance.of_job.get(&key.job()))??;
        self.has_others(avoided).then(|| avoided.clone())
    }

    /// Whether any worker is active besides these.
    fn has_others(&self, these: &[Seat]) -> bool {
        let active = (self.workers.connected() as u64).saturating_sub(self.totals.paused);
        let workers = these.iter().filter_map(|seat| self.workers.get(*seat));
        active > workers.filter(|worker| worker.is_active()).count() as u64
    }

    /// The first job of the main queue which this worker may have.
    pub(super) fn first_for(&self, seat: Seat) -> Option<Key> {
        let groups = self.avoidance.main.iter();
        let wary = groups
            .filter(|(avoided, _)| !avoided.contains(&seat) || !self.has_others(avoided))
            .filter_map(|(_, keys)| keys.first());
        wary.chain(self.backlog.first()).min().copied()
    }

    /// A worker became active, so jobs for which there had been nobody else leave the local queues of those they avoid.
    pub(super) fn withdraw_avoided(&mut self, out: &mut Out) {
        let misplaced = self.avoidance.local.iter().filter(|(seat, key)| {
            self.kept_from(*key)
                .is_some_and(|avoided| avoided.contains(seat))
        });
        let misplaced: BTreeSet<Key> = misplaced.map(|(_, key)| *key).collect();
        for key in misplaced {
            self.put_back(out, key);
        }
    }

    /// A worker became inactive, so jobs that waited for it in vain may go to those they avoid.
    pub(super) fn offer_avoided(&mut self, out: &mut Out) {
        while !self.ready.is_empty()
            && let Some(key) = self.first_for_any()
        {
            self.put_back(out, key);
        }
    }

    /// The first of the jobs on the main queue that would avoid workers, but have none but these.
    fn first_for_any(&self) -> Option<Key> {
        let groups = self.avoidance.main.iter();
        let free = groups.filter(|(avoided, _)| !self.has_others(avoided));
        free.filter_map(|(_, keys)| keys.first()).min().copied()
    }
}

/// Whether a worker is among those a job is kept from.
pub(super) fn is_among(seat: Seat, kept_from: Option<&Seats>) -> bool {
    kept_from.is_some_and(|seats| seats.contains(&seat))
}
