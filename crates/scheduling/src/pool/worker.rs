//! Workers: the names a pool has seen, each with its seat, and what is known of those connected.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{PopId, WorkerId, WorkerName};
use crate::reasons::{AdminPause, PauseNote, Reasons};
use crate::view::Lengths;

use super::index::Listing;
use super::job::Key;
use super::recent::Recent;

/// Stands for a worker's name, connected or not, for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(u32);

impl Seat {
    #[cfg(test)]
    pub(super) const fn of(index: u32) -> Self {
        Self(index)
    }
}

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    /// How many jobs it says it runs at once; 0 if unknown.
    pub(super) capacity: u32,
    pub(super) reasons: Reasons,
    /// What it says of its own pause, while it is paused by itself.
    pub(super) pause_note: Option<PauseNote>,
    /// The jobs meant for it.
    pub(super) local: BTreeSet<Key>,
    pub(super) lengths: Lengths,
    /// The cost in seconds of the jobs on its local queue.
    pub(super) workload: u64,
    /// Jobs taken and not finished.
    pub(super) running: u32,
    /// The estimated cost in seconds of those.
    pub(super) running_cost: u64,
    /// Its requests for work that wait: for a job while it is active, for its resumption while it is not. By turn.
    pub(super) parked: BTreeMap<u64, PopId>,
    /// Its requests for work that were told to run and have not yet.
    pub(super) woken: BTreeSet<PopId>,
    /// Where the indexes of the pool list it.
    pub(super) listing: Listing,
}

impl Worker {
    pub(super) fn new(id: WorkerId, capacity: u32, reasons: Reasons) -> Self {
        Self {
            id,
            capacity,
            reasons,
            pause_note: None,
            local: BTreeSet::new(),
            lengths: Lengths::default(),
            workload: 0,
            running: 0,
            running_cost: 0,
            parked: BTreeMap::new(),
            woken: BTreeSet::new(),
            listing: Listing::default(),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.reasons.is_empty()
    }

    /// How many jobs it is assumed to run at once. One that does not tell, or tells 0 and yet asks for work, has one.
    pub(super) fn slots(&self) -> u64 {
        u64::from(self.capacity.max(1))
    }

    /// Whether running and queued jobs together leave a slot unused.
    pub(super) fn has_free_slot(&self) -> bool {
        u64::from(self.running) + self.lengths.total() < self.slots()
    }

    /// Whether a request of it is about to run for which there is no job yet.
    pub(super) fn is_about_to_ask(&self) -> bool {
        self.woken.len() > self.local.len()
    }

    /// The estimated cost in seconds of all it runs and has queued.
    pub(super) fn load(&self) -> u64 {
        self.running_cost + self.workload
    }
}

/// What a pool knows under a worker's name.
#[derive(Debug)]
pub(super) struct Occupant {
    pub(super) name: WorkerName,
    /// Whether an administrator paused it, if the name is known at all; a forgotten one is not.
    pub(super) paused: Option<bool>,
    /// What is known of that pause, while it lasts.
    pub(super) pause: Option<AdminPause>,
    pub(super) worker: Option<Worker>,
    /// What it probably has cached, connected or not.
    pub(super) recent: Recent,
}

/// The workers of a pool.
#[derive(Debug, Default)]
pub(super) struct Workers {
    by_name: BTreeMap<WorkerName, Seat>,
    by_id: BTreeMap<WorkerId, Seat>,
    occupants: Vec<Occupant>,
    /// Workers that left while jobs were running there: their names, and how many jobs.
    pub(super) departed: BTreeMap<WorkerId, (WorkerName, u32)>,
}

impl Workers {
    /// The seat of this name, which it keeps for good.
    pub(super) fn seat(&mut self, name: &WorkerName) -> Seat {
        if let Some(seat) = self.by_name.get(name) {
            return *seat;
        }
        // Names are given by hand or by host; the number cannot wrap.
        let seat = Seat(self.occupants.len() as u32);
        self.occupants.push(Occupant {
            name: name.clone(),
            paused: None,
            pause: None,
            worker: None,
            recent: Recent::default(),
        });
        self.by_name.insert(name.clone(), seat);
        seat
    }

    pub(super) fn find(&self, name: &WorkerName) -> Option<Seat> {
        self.by_name.get(name).copied()
    }

    pub(super) fn of_id(&self, id: WorkerId) -> Option<Seat> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn occupant(&self, seat: Seat) -> Option<&Occupant> {
        self.occupants.get(seat.0 as usize)
    }

    pub(super) fn occupant_mut(&mut self, seat: Seat) -> Option<&mut Occupant> {
        self.occupants.get_mut(seat.0 as usize)
    }

    pub(super) fn name(&self, seat: Seat) -> WorkerName {
        self.occupant(seat)
            .map_or_else(|| WorkerName::from(""), |o| o.name.clone())
    }

    pub(super) fn get(&self, seat: Seat) -> Option<&Worker> {
        self.occupant(seat)?.worker.as_ref()
    }

    pub(super) fn get_mut(&mut self, seat: Seat) -> Option<&mut Worker> {
        self.occupant_mut(seat)?.worker.as_mut()
    }

    pub(super) fn connect(&mut self, seat: Seat, worker: Worker) {
        self.by_id.insert(worker.id, seat);
        if let Some(occupant) = self.occupant_mut(seat) {
            occupant.worker = Some(worker);
        }
    }

    pub(super) fn disconnect(&mut self, seat: Seat) -> Option<Worker> {
        let worker = self.occupant_mut(seat)?.worker.take()?;
        self.by_id.remove(&worker.id);
        Some(worker)
    }

    /// How many are connected.
    pub(super) fn connected(&self) -> usize {
        self.by_id.len()
    }

    /// Every name ever seen, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Occupant> {
        self.by_name
            .values()
            .filter_map(|seat| self.occupant(*seat))
    }
}
