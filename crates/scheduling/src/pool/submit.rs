//! Jobs come, are cancelled, and end.

use crate::effect::{Effect, Refusal};
use crate::ids::{ClientId, Hint, JobId};
use crate::record::Record;

use super::job::{Place, Ticket};
use super::out::Out;
use super::state::Pool;

impl Pool {
    pub(crate) fn submit(
        &mut self,
        out: &mut Out,
        client: ClientId,
        job: JobId,
        hint: Hint,
        urgent: bool,
    ) -> Result<(), Refusal> {
        let (hint, cached) = self.hints.enqueue(hint);
        let cost = self.charge_for(hint, cached);
        let charged = self.clients.charge(out.now, &client, job, urgent, cost);
        let fair_start = charged.fair_start;
        out.push(Effect::Queued { job, fair_start });
        out.persist(Record::Debt {
            pool: self.name.clone(),
            client,
            next_fair_start: charged.next_fair_start,
        });
        let ticket = Ticket {
            fair_start,
            client: charged.client,
            hint,
            place: Place::Main,
            urgent,
            deferred: false,
            wary: false,
        };
        let key = ticket.key(job);
        self.jobs.insert(job, ticket);
        self.totals.submitted += 1;
        if self.admit(key) {
            self.add(out, key);
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self, out: &mut Out, job: JobId) -> Result<(), Refusal> {
        let Some(ticket) = self.jobs.get(&job) else {
            return Err(Refusal::NotQueued);
        };
        let key = ticket.key(job);
        let client = self.bounded_client(job);
        self.take_off(key);
        self.forget_job(job);
        self.totals.cancelled += 1;
        out.push(Effect::JobCancelled { job });
        self.count_cancelled(out, client.as_ref(), key);
        Ok(())
    }

    /// Drops what is known of a job that was just taken off its queue.
    pub(super) fn forget_job(&mut self, job: JobId) {
        if let Some(ticket) = self.jobs.remove(&job) {
            self.hints.dequeue(ticket.hint);
            self.clients.dequeue(ticket.client, job, ticket.urgent);
            if ticket.wary {
                self.avoidance.end(job);
            }
        }
    }

    pub(crate) fn finished(&mut self, out: &mut Out, job: JobId) -> Result<(), Refusal> {
        let Some(run) = self.running.remove(&job) else {
            return Err(Refusal::NotRunning);
        };
        let took = run.since.map(|since| (out.now.since(since), run.warm));
        self.hints.end(run.hint, took);
        if let Some(seat) = self.workers.of_id(run.worker) {
            if let Some(occupant) = self.workers.occupant_mut(seat) {
                occupant.recent.note(run.hint, true);
            }
            let name = self.workers.name(seat);
            if let Some(worker) = self.workers.get_mut(seat) {
                worker.running = worker.running.saturating_sub(1);
                worker.running_cost = worker.running_cost.saturating_sub(u64::from(run.cost));
                let running = worker.running;
                out.push(Effect::RunningChanged {
                    worker: run.worker,
                    name,
                    running,
                });
            }
            self.refresh(seat);
        } else if let Some((name, running)) = self.workers.departed.get_mut(&run.worker) {
            *running = running.saturating_sub(1);
            let (name, running) = (name.clone(), *running);
            if running == 0 {
                self.workers.departed.remove(&run.worker);
            }
            out.push(Effect::RunningChanged {
                worker: run.worker,
                name,
                running,
            });
        }
        self.count_ended(out, run.client.as_ref());
        Ok(())
    }
}
