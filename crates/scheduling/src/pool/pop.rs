//! A worker asks for a job: it gets one, or waits.

use crate::effect::{Effect, Fact, Refusal, TakenFrom};
use crate::ids::{PopId, WorkerId};
use crate::policy::Policy;
use crate::time::Timestamp;

use super::job::{Key, Place, Running};
use super::out::Out;
use super::state::{Main, Pool, Pop};
use super::worker::Seat;

/// So many jobs are left to busy workers by one request at most, so that it is answered soon.
const MOST_MOVED: usize = 4;
/// A job is taken before its turn by a worker that has its hint cached if it is due no later than so many times what that saves.
/// More finds more caches, and treats clients less evenly.
const REACH: f64 = 4.0;

impl Pool {
    pub(crate) fn ask(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        pop: PopId,
    ) -> Result<(), Refusal> {
        let Some(seat) = self.workers.of_id(worker) else {
            return Err(Refusal::QueueClosed);
        };
        self.pops.insert(pop, Pop { seat, turn: None });
        self.run_pop(out, seat, pop);
        self.settle(out, seat);
        Ok(())
    }

    pub(crate) fn resume_pop(&mut self, out: &mut Out, pop: PopId) -> Result<(), Refusal> {
        let seat = match self.pops.get(&pop) {
            Some(Pop { seat, turn: None }) => *seat,
            _ => return Err(Refusal::UnknownPop),
        };
        if let Some(worker) = self.workers.get_mut(seat) {
            worker.woken.remove(&pop);
        }
        self.refresh(seat);
        self.run_pop(out, seat, pop);
        if self.policy == Policy::Upstream {
            self.requeue_waiting(seat);
        }
        self.settle(out, seat);
        Ok(())
    }

    pub(crate) fn withdraw_pop(&mut self, out: &mut Out, pop: PopId) -> Result<(), Refusal> {
        let Some(Pop { seat, turn }) = self.pops.remove(&pop) else {
            return Err(Refusal::UnknownPop);
        };
        if let Some(worker) = self.workers.get_mut(seat) {
            match turn {
                Some(turn) => {
                    worker.parked.remove(&turn);
                    self.ready.remove(&turn);
                    self.refresh(seat);
                }
                None => {
                    worker.woken.remove(&pop);
                    self.refresh(seat);
                    self.replace_woken(out, seat);
                }
            }
        }
        self.settle(out, seat);
        Ok(())
    }

    /// A request that was told to run did not, so the job chosen for it needs another taker: the next request of the
    /// same worker or, if there is none, whoever the pool finds.
    fn replace_woken(&mut self, out: &mut Out, seat: Seat) {
        let Some(worker) = self.workers.get(seat) else {
            return;
        };
        if !worker.is_active() || worker.local.len() <= worker.woken.len() {
            return;
        }
        if !worker.parked.is_empty() {
            self.wake_oldest(out, seat);
        } else if worker.woken.is_empty()
            && let Some(first) = worker.local.first().copied()
        {
            self.put_back(out, first);
        }
    }

    /// OCluster wakes all waiting requests of a worker at once; those that get nothing wait again, behind all others.
    fn requeue_waiting(&mut self, seat: Seat) {
        let Some(worker) = self.workers.get_mut(seat) else {
            return;
        };
        if !worker.is_active() {
            return;
        }
        for (turn, pop) in std::mem::take(&mut worker.parked) {
            self.ready.remove(&turn);
            let turn = self.next_turn;
            self.next_turn += 1;
            self.ready.insert(turn, pop);
            worker.parked.insert(turn, pop);
            if let Some(pop) = self.pops.get_mut(&pop) {
                pop.turn = Some(turn);
            }
        }
    }

    fn run_pop(&mut self, out: &mut Out, seat: Seat, pop: PopId) {
        let Some(worker) = self.workers.get(seat) else {
            return;
        };
        let found = match self.policy {
            _ if !worker.is_active() => None,
            Policy::Upstream => self.find_upstream(out, seat),
            Policy::Balanced => self.find_balanced(out, seat),
        };
        match found {
            Some((key, from)) => self.accept(out, seat, pop, key, from),
            None => self.park(out, seat, pop),
        }
    }

    /// The job an active worker gets under `upstream`. On the way, jobs at the head of the main queue go to workers
    /// that have their hints cached.
    fn find_upstream(&mut self, out: &mut Out, seat: Seat) -> Option<(Key, TakenFrom)> {
        loop {
            if let Some(key) = self.workers.get(seat)?.local.first() {
                return Some((*key, TakenFrom::Local));
            }
            let key = self.first_for(seat)?;
            let kept_from = self.kept_from(key);
            match self
                .hint_of(key)
                .and_then(|hint| self.upstream_preferred(hint, kept_from.as_ref()))
            {
                Some(preferred) => {
                    self.take_off(key);
                    self.assign(out, key, preferred, self.costs.cached, true);
                }
                None => return Some((key, TakenFrom::Main)),
            }
        }
    }

    /// The job an active worker gets under `balanced`.
    fn find_balanced(&mut self, out: &mut Out, seat: Seat) -> Option<(Key, TakenFrom)> {
        while let Some(job) = self.patience.overdue(out.now) {
            self.patience.end(job);
            if let Some(key) = self.jobs.get(&job).map(|ticket| ticket.key(job)) {
                self.put_back(out, key);
            }
        }
        // What is moved below is not among these jobs, so that it need not be found again.
        let mut nearest = None;
        let mut moved = 0;
        loop {
            let own = self.workers.get(seat)?.local.first().copied();
            let Some(key) = self.first_for(seat) else {
                if let Some(own) = own {
                    return Some((own, TakenFrom::Local));
                }
                let (key, other) = self.indexes.best_head()?;
                return Some((key, TakenFrom::LocalOf(self.workers.name(other))));
            };
            if let Some(own) = own.filter(|own| *own < key) {
                return Some((own, TakenFrom::Local));
            }
            let near = *nearest.get_or_insert_with(|| self.nearest_cached(seat));
            if let Some((place, near)) = near
                && place < key.fair_start()
                && !key.urgent()
                && !self.is_warm(self.hint_of(key)?, seat)
            {
                // One that is here for another reason than the cache has to wait for its turn.
                let own = own.filter(|own| {
                    *own < near
                        && self
                            .hint_of(*own)
                            .is_some_and(|hint| self.is_warm(hint, seat))
                });
                return Some(match own {
                    Some(own) => (own, TakenFrom::Local),
                    None => (near, TakenFrom::Main),
                });
            }
            if moved == MOST_MOVED {
                return Some((key, TakenFrom::Main));
            }
            moved += 1;
            let Some(other) = self.worth_waiting_for(key, seat) else {
                return Some((key, TakenFrom::Main));
            };
            self.take_off(key);
            if let Some(ticket) = self.jobs.get_mut(&key.job()) {
                ticket.deferred = true;
            }
            // Waiting for the cache can save the difference between the costs; having waited as long as that, it has
            // saved nothing, and the job goes wherever it can. However much it might save, nobody waits for hours.
            let hint = self.hint_of(key)?;
            let worth = self.worth_of_cache(hint).min(self.costs.non_cached);
            self.patience
                .begin(key.job(), out.now.plus(f64::from(worth)));
            self.assign(out, key, other, self.cost_of(hint, true), true);
        }
    }

    /// The job of the main queue that is due first of those whose hint the worker has cached, if what the cache saves counts for
    /// more than it is; and when it is due, so counted.
    fn nearest_cached(&self, seat: Seat) -> Option<(Timestamp, Key)> {
        let warm = self.workers.occupant(seat)?.recent.warm();
        let near = warm.filter_map(|hint| {
            let key = self.hints.first_in_line(hint)?;
            let worth = f64::from(self.worth_of_cache(hint)) * REACH;
            let cached = self.hints.prefers(hint, seat);
            cached.then(|| (key.fair_start().plus(-worth), key))
        });
        near.min()
    }

    /// Keeps what `balanced` promises: while requests of a worker are about to run, its local queue holds no more jobs
    /// than these will take. A surplus could otherwise be left behind, after others had found nothing and begun to wait.
    /// And a job that avoids workers is never left behind for any of them to find; nor any other, while workers wait that
    /// the job avoids for which this one was left.
    fn settle(&mut self, out: &mut Out, seat: Seat) {
        while self.policy == Policy::Balanced
            && let Some(key) = self.surplus(seat)
        {
            self.put_back(out, key);
        }
    }

    fn surplus(&self, seat: Seat) -> Option<Key> {
        let worker = self.workers.get(seat)?;
        match (worker.woken.len(), worker.local.len()) {
            (0, _) => {
                let first = worker.local.first().copied();
                let idle = first.filter(|_| !self.ready.is_empty());
                self.avoidance.first_on(seat).or(idle)
            }
            (woken, local) if local > woken => worker.local.last().copied(),
            _ => None,
        }
    }

    /// Lets the request wait: for a job or, if its worker is inactive, for that to change.
    fn park(&mut self, out: &mut Out, seat: Seat, id: PopId) {
        let turn = self.next_turn;
        self.next_turn += 1;
        if let Some(pop) = self.pops.get_mut(&id) {
            pop.turn = Some(turn);
        }
        let name = self.workers.name(seat);
        let Some(worker) = self.workers.get_mut(seat) else {
            return;
        };
        worker.parked.insert(turn, id);
        if worker.is_active() {
            self.main = Main::Ready;
            self.ready.insert(turn, id);
            out.log(Fact::Waiting { worker: name });
        }
        self.refresh(seat);
    }

    /// The worker takes the job; it is no longer queued.
    fn accept(&mut self, out: &mut Out, seat: Seat, pop: PopId, key: Key, from: TakenFrom) {
        let job = key.job();
        let Some(ticket) = self.jobs.get(&job) else {
            return;
        };
        let hint = ticket.hint;
        let cost = match ticket.place {
            // Chosen for this worker before the hint was noted as cached here: the cost of then is the true one.
            Place::Local { seat: chosen, cost } if chosen == seat => cost,
            _ => self.cost_on(hint, seat),
        };
        let warm = self.is_warm(hint, seat);
        let client = self.bounded_client(job);
        self.count_started(client.as_ref(), key);
        self.take_off(key);
        self.note_cached(out, hint, seat);
        self.hints.begin(hint);
        let (text, name) = (self.hints.hint(hint), self.workers.name(seat));
        self.forget_job(job);
        self.pops.remove(&pop);
        self.totals.accepted += 1;
        let Some(worker) = self.workers.get_mut(seat) else {
            return;
        };
        worker.running += 1;
        worker.running_cost += u64::from(cost);
        let (worker, running) = (worker.id, worker.running);
        let run = Running {
            worker,
            cost,
            hint,
            warm,
            since: Some(out.now),
            client,
        };
        self.running.insert(job, run);
        self.refresh(seat);
        out.log(Fact::Takes {
            worker: name.clone(),
            hint: text,
            from,
        });
        out.push(Effect::Give { pop, job, worker });
        out.push(Effect::RunningChanged {
            worker,
            name,
            running,
        });
    }
}
