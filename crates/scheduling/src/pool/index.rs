//! Ordered indexes over the workers of a pool, so that no decision has to look at each of them.
//!
//! [`Pool::refresh`] is the one place that keeps them in step with a worker; it is called after every change to one.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::ids::WorkerName;
use crate::policy::Policy;

use super::avoid::{Seats, is_among};
use super::hints::HintIndex;
use super::job::Key;
use super::state::Pool;
use super::worker::{Seat, Worker};

/// Marks the load of a worker without a free slot, which so comes after all that have one.
const FULL: u64 = 1 << 62;

/// A worker by its load, the one to prefer first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    load: u64,
    /// `upstream` only: the later name wins a tie. Ours goes by seat, which is cheaper to compare.
    name: Option<Reverse<WorkerName>>,
    seat: Seat,
}

/// Which index of loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// `upstream`: every active worker. `balanced`: active workers that do not wait, except those about to take all
    /// that is meant for them.
    Busy,
    /// `balanced`: active workers that wait for a job.
    Idle,
}

/// Where a worker is listed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    load: Option<(Group, Load)>,
    head: Option<Key>,
}

/// The indexes.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    busy: BTreeSet<Load>,
    idle: BTreeSet<Load>,
    /// `balanced`: the first job of each local queue whose worker has nobody about to take it.
    heads: BTreeSet<(Key, Seat)>,
}

impl Indexes {
    fn group(&self, group: Group) -> &BTreeSet<Load> {
        match group {
            Group::Busy => &self.busy,
            Group::Idle => &self.idle,
        }
    }

    fn group_mut(&mut self, group: Group) -> &mut BTreeSet<Load> {
        match group {
            Group::Busy => &mut self.busy,
            Group::Idle => &mut self.idle,
        }
    }

    /// The best of the jobs which wait on the local queue of a worker that cannot start them now.
    pub(super) fn best_head(&self) -> Option<(Key, Seat)> {
        self.heads.first().copied()
    }
}

impl Pool {
    /// Brings the indexes in step with the worker on this seat, connected or just gone.
    pub(super) fn refresh(&mut self, seat: Seat) {
        let policy = self.policy;
        let Some(occupant) = self.workers.occupant_mut(seat) else {
            return;
        };
        let Some(worker) = occupant.worker.as_mut() else {
            return;
        };
        let group = group_of(policy, worker);
        let load = load_of(policy, worker);
        let same = match (&worker.listing.load, group) {
            (Some((old_group, old)), Some(group)) => *old_group == group && old.load == load,
            (None, None) => true,
            _ => false,
        };
        if !same {
            if let Some((group, old)) = worker.listing.load.take() {
                self.indexes.group_mut(group).remove(&old);
            }
            if let Some(group) = group {
                let by_name = policy == Policy::Upstream;
                let new = Load {
                    load,
                    name: by_name.then(|| Reverse(occupant.name.clone())),
                    seat,
                };
                self.indexes.group_mut(group).insert(new.clone());
                worker.listing.load = Some((group, new));
            }
        }
        let head = match policy {
            Policy::Balanced if worker.woken.is_empty() => worker.local.first().copied(),
            _ => None,
        };
        if head != worker.listing.head {
            if let Some(old) = std::mem::replace(&mut worker.listing.head, head) {
                self.indexes.heads.remove(&(old, seat));
            }
            if let Some(head) = head {
                self.indexes.heads.insert((head, seat));
            }
        }
    }

    /// The worker with the least load among those of the group that are preferred for the hint, except some, and except
    /// those whose load is not below the limit.
    ///
    /// Looks at the loads in order, of which one in `n / c` belongs to one of the hint's `c` workers if these are like all
    /// others; and if that finds nobody soon, because there are few or their loads are high, at the hint's workers. So it is
    /// expected to take some √n steps, and takes 2c at most.
    pub(super) fn least_loaded(
        &self,
        group: Group,
        hint: HintIndex,
        kept_from: Option<&Seats>,
        limit: u64,
    ) -> Option<Seat> {
        let candidates = self.hints.preferred(hint);
        let loads = self.indexes.group(group);
        let mut steps = match candidates.len() * candidates.len() <= loads.len().max(16) {
            true => 0,
            false => candidates.len(),
        };
        for load in loads {
            if load.load >= limit {
                return None;
            }
            if steps == 0 {
                break;
            }
            steps -= 1;
            if self.is_preferred(hint, load.seat) && !is_among(load.seat, kept_from) {
                return Some(load.seat);
            }
        }
        let allowed = candidates
            .iter()
            .filter(|(seat, _)| self.is_preferred(hint, *seat) && !is_among(*seat, kept_from));
        let listed = allowed.filter_map(|(seat, _)| match &self.workers.get(*seat)?.listing.load {
            Some((listed, load)) if *listed == group => Some(load),
            _ => None,
        });
        let least = listed.min().filter(|least| least.load < limit);
        least.map(|load| load.seat)
    }
}

/// `balanced`: the limit of loads for workers for which it is worth to wait so many seconds.
pub(super) fn limit_of_waiting(seconds: u32) -> u64 {
    match seconds {
        0 => 0,
        _ => FULL | (u64::from(seconds) * 1000),
    }
}

fn group_of(policy: Policy, worker: &Worker) -> Option<Group> {
    if !worker.is_active() {
        return None;
    }
    match policy {
        Policy::Upstream => Some(Group::Busy),
        Policy::Balanced if !worker.parked.is_empty() => Some(Group::Idle),
        Policy::Balanced if worker.woken.is_empty() || worker.is_about_to_ask() => {
            Some(Group::Busy)
        }
        Policy::Balanced => None,
    }
}

/// What the index orders by. `upstream`: the cost queued. `balanced`: the cost queued and running per slot, in
/// milliseconds, and those with a free slot before all others.
fn load_of(policy: Policy, worker: &Worker) -> u64 {
    match policy {
        Policy::Upstream => worker.workload,
        Policy::Balanced => {
            let per_slot = (worker.load().saturating_mul(1000) / worker.slots()).min(FULL - 1);
            if worker.has_free_slot() || worker.is_about_to_ask() {
                per_slot
            } else {
                per_slot | FULL
            }
        }
    }
}
