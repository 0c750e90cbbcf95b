//! Workers come, pause, resume and leave.

use crate::effect::{Effect, Refusal};
use crate::ids::{WorkerId, WorkerName};
use crate::reasons::{PauseNote, Reason, Reasons};
use crate::record::Record;

use super::out::Out;
use super::state::Pool;
use super::worker::{Seat, Worker};

impl Pool {
    pub(crate) fn register(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        name: WorkerName,
        capacity: u32,
    ) -> Result<(), Refusal> {
        let seat = self.workers.seat(&name);
        if self.workers.get(seat).is_some() {
            return Err(Refusal::NameTaken(name));
        }
        let known = self
            .workers
            .occupant(seat)
            .and_then(|occupant| occupant.paused);
        if known.is_none() {
            self.remember(&name, Some(false), None);
            out.persist(Record::KnownWorker {
                pool: self.name.clone(),
                name,
                paused: false,
                pause: None,
            });
        }
        let mut reasons = Reasons::NONE.with(Reason::WorkerPause);
        if known == Some(true) {
            reasons = reasons.with(Reason::AdminPause);
        }
        self.workers
            .connect(seat, Worker::new(worker, capacity, reasons));
        self.totals.capacity += u64::from(capacity);
        self.totals.paused += 1;
        Ok(())
    }

    /// The worker asks for no more work, and says why, or does not.
    pub(crate) fn worker_paused(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        note: Option<PauseNote>,
    ) -> Result<(), Refusal> {
        self.deactivate(out, worker, Reason::WorkerPause)?;
        let seat = self.workers.of_id(worker);
        if let Some(worker) = seat.and_then(|seat| self.workers.get_mut(seat)) {
            worker.pause_note = note;
        }
        Ok(())
    }

    /// Adds a reason for the worker to be inactive. If it is the first, the jobs meant for it go elsewhere, each with
    /// its old position; the jobs it runs are not touched.
    pub(crate) fn deactivate(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        reason: Reason,
    ) -> Result<(), Refusal> {
        let Some(seat) = self.workers.of_id(worker) else {
            return Err(Refusal::QueueClosed);
        };
        let Some(worker) = self.workers.get_mut(seat) else {
            return Err(Refusal::QueueClosed);
        };
        let was_active = worker.is_active();
        worker.reasons = worker.reasons.with(reason);
        if was_active {
            for turn in worker.parked.keys() {
                self.ready.remove(turn);
            }
            self.totals.paused += 1;
            self.refresh(seat);
            self.displace(out, seat);
            self.offer_avoided(out);
        }
        Ok(())
    }

    /// Gives up a reason for the worker to be inactive. If it was the last, its waiting requests run.
    pub(crate) fn activate(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        reason: Reason,
    ) -> Result<(), Refusal> {
        let Some(seat) = self.workers.of_id(worker) else {
            return Err(Refusal::QueueClosed);
        };
        let Some(worker) = self.workers.get_mut(seat) else {
            return Err(Refusal::QueueClosed);
        };
        if worker.is_active() {
            return Ok(());
        }
        worker.reasons = worker.reasons.without(reason);
        if reason == Reason::WorkerPause {
            worker.pause_note = None;
        }
        if worker.is_active() {
            self.totals.paused = self.totals.paused.saturating_sub(1);
            let waiting = worker.parked.len();
            self.refresh(seat);
            for _ in 0..waiting {
                self.wake_oldest(out, seat);
            }
            self.withdraw_avoided(out);
        }
        Ok(())
    }

    /// Empties the local queue of a worker that may get no work, in order.
    fn displace(&mut self, out: &mut Out, seat: Seat) {
        while let Some(first) = self
            .workers
            .get(seat)
            .and_then(|w| w.local.first().copied())
        {
            self.put_back(out, first);
        }
    }

    pub(crate) fn leave(&mut self, out: &mut Out, id: WorkerId) -> Result<(), Refusal> {
        let Some(seat) = self.workers.of_id(id) else {
            return Err(Refusal::QueueClosed);
        };
        let Some(worker) = self.workers.get_mut(seat) else {
            return Err(Refusal::QueueClosed);
        };
        let parked = std::mem::take(&mut worker.parked);
        let woken = std::mem::take(&mut worker.woken);
        for turn in parked.keys() {
            self.ready.remove(turn);
        }
        for pop in woken.into_iter().chain(parked.into_values()) {
            self.pops.remove(&pop);
            out.push(Effect::EndPop { pop });
        }
        self.deactivate(out, id, Reason::WorkerPause)?;
        let name = self.workers.name(seat);
        if let Some(worker) = self.workers.disconnect(seat) {
            self.totals.capacity -= u64::from(worker.capacity);
            self.totals.paused = self.totals.paused.saturating_sub(1);
            if worker.running > 0 {
                self.workers.departed.insert(id, (name, worker.running));
            }
        }
        Ok(())
    }
}
