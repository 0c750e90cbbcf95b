//! A job enters the pool, new or displaced: to which queue it goes, and who is woken.

use crate::effect::{Effect, Fact};
use crate::policy::Policy;

use super::avoid::{Seats, is_among};
use super::hints::HintIndex;
use super::index::{Group, limit_of_waiting};
use super::job::Key;
use super::out::Out;
use super::state::{Main, Pool};
use super::worker::Seat;

impl Pool {
    /// Finds a queue for a job that is on none.
    pub(super) fn add(&mut self, out: &mut Out, key: Key) {
        if self.place(out, key) {
            return;
        }
        self.main = Main::Backlog;
        if let Some(hint) = self.hint_of(key) {
            out.log(Fact::Backlogged {
                hint: self.hints.hint(hint),
            });
        }
        self.put_on_main(key);
    }

    /// Finds a worker for a job that is on no queue, if a request waits that may have it; tells whether it did.
    pub(super) fn place(&mut self, out: &mut Out, key: Key) -> bool {
        let Some(hint) = self.hint_of(key) else {
            return false;
        };
        let kept_from = self.kept_from(key);
        let kept_from = kept_from.as_ref();
        let mut waiting = self.ready.values().filter_map(|pop| self.pops.get(pop));
        let oldest = waiting.find(|pop| !is_among(pop.seat, kept_from));
        let Some(next_free) = oldest.map(|pop| pop.seat) else {
            return false;
        };
        let preferred = match self.policy {
            Policy::Upstream => self.upstream_preferred(hint, kept_from),
            Policy::Balanced => self.least_loaded(Group::Idle, hint, kept_from, u64::MAX),
        };
        match preferred {
            Some(seat) => self.assign(out, key, seat, self.cost_of(hint, true), true),
            None => {
                self.note_cached(out, hint, next_free);
                self.assign(out, key, next_free, self.cost_of(hint, false), false);
            }
        }
        true
    }

    /// `upstream`: the active worker that has the hint cached and the least work queued, unless that is too much.
    pub(super) fn upstream_preferred(
        &self,
        hint: HintIndex,
        kept_from: Option<&Seats>,
    ) -> Option<Seat> {
        let too_much = u64::from(self.costs.non_cached) + 1;
        self.least_loaded(Group::Busy, hint, kept_from, too_much)
    }

    /// `balanced`: the busy worker on whose local queue the job should rather wait than be started by `asking`.
    pub(super) fn worth_waiting_for(&self, key: Key, asking: Seat) -> Option<Seat> {
        let ticket = self.jobs.get(&key.job())?;
        let may_wait = !(ticket.urgent || ticket.deferred || ticket.wary);
        if !may_wait || self.is_preferred(ticket.hint, asking) {
            return None;
        }
        let limit = limit_of_waiting(self.worth_of_cache(ticket.hint));
        self.least_loaded(Group::Busy, ticket.hint, None, limit)
    }

    /// Puts a job on a worker's local queue and, if a request of that worker waits, lets the oldest one run. That one
    /// waits no longer, so a second job in the same turn finds only workers that are really free.
    pub(super) fn assign(
        &mut self,
        out: &mut Out,
        key: Key,
        seat: Seat,
        cost: u32,
        preferred: bool,
    ) {
        if let Some(hint) = self.hint_of(key) {
            let (hint, worker) = (self.hints.hint(hint), self.workers.name(seat));
            out.log(Fact::Assigned {
                hint,
                worker,
                preferred,
            });
        }
        self.put_on_local(key, seat, cost);
        self.wake_oldest(out, seat);
    }

    /// Lets the oldest waiting request of this worker run, if there is one.
    pub(super) fn wake_oldest(&mut self, out: &mut Out, seat: Seat) {
        let Some(worker) = self.workers.get_mut(seat) else {
            return;
        };
        let Some((turn, pop)) = worker.parked.pop_first() else {
            return;
        };
        worker.woken.insert(pop);
        self.ready.remove(&turn);
        if let Some(pop) = self.pops.get_mut(&pop) {
            pop.turn = None;
        }
        out.push(Effect::Wake { pop });
        self.refresh(seat);
    }

    /// Takes a job off a local queue and finds it a queue anew.
    pub(super) fn put_back(&mut self, out: &mut Out, key: Key) {
        self.take_off(key);
        self.add(out, key);
    }
}
