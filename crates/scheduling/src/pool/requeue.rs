//! Jobs accepted earlier come back: to their old places, or as running where they still run.

use crate::effect::{Effect, Refusal};
use crate::ids::{ClientId, Hint, JobId, WorkerId, WorkerName};
use crate::time::Timestamp;

use super::job::{Place, Running, Ticket};
use super::out::Out;
use super::state::{Main, Pool};

/// A job accepted earlier that is to be queued again.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) client: ClientId,
    pub(crate) job: JobId,
    pub(crate) hint: Hint,
    pub(crate) urgent: bool,
    pub(crate) fair_start: Timestamp,
    pub(crate) avoid: Vec<WorkerName>,
}

impl Pool {
    /// Queues a job again, for which its client was charged before. What it is worth as a sign of a cache to come counts
    /// again. That it waits is no news to operators: after a restart there may be a million of these.
    pub(crate) fn requeue(&mut self, out: &mut Out, accepted: Accepted) -> Result<(), Refusal> {
        let Accepted {
            client,
            job,
            hint,
            urgent,
            fair_start,
            avoid,
        } = accepted;
        let (hint, _) = self.hints.enqueue(hint);
        let client = self.clients.enqueue(out.now, &client, job, urgent);
        let ticket = Ticket {
            fair_start,
            client,
            hint,
            place: Place::Main,
            urgent,
            deferred: false,
            wary: !avoid.is_empty(),
        };
        let key = ticket.key(job);
        self.jobs.insert(job, ticket);
        if !avoid.is_empty() {
            let avoided = self.seats(&avoid);
            self.avoidance.begin(job, avoided);
        }
        if self.admit(key) && !self.place(out, key) {
            self.main = Main::Backlog;
            self.put_on_main(key);
        }
        Ok(())
    }

    /// Counts a job as running on a worker that had it before it joined.
    pub(crate) fn adopt(
        &mut self,
        out: &mut Out,
        id: WorkerId,
        job: JobId,
        client: ClientId,
        hint: Hint,
    ) -> Result<(), Refusal> {
        let Some(seat) = self.workers.of_id(id) else {
            return Err(Refusal::QueueClosed);
        };
        let (hint, _) = self.hints.enqueue(hint);
        let (cost, warm) = (self.cost_on(hint, seat), self.is_warm(hint, seat));
        self.note_cached(out, hint, seat);
        self.hints.begin(hint);
        self.hints.dequeue(hint);
        let name = self.workers.name(seat);
        if let Some(worker) = self.workers.get_mut(seat) {
            worker.running += 1;
            worker.running_cost += u64::from(cost);
            let running = worker.running;
            out.push(Effect::RunningChanged {
                worker: id,
                name,
                running,
            });
        }
        self.count_adopted(&client);
        let run = Running {
            worker: id,
            cost,
            hint,
            warm,
            since: None,
            client: self.quotas.in_force().then_some(client),
        };
        self.running.insert(job, run);
        self.refresh(seat);
        Ok(())
    }
}
