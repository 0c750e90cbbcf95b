//! `Ticket`: what a client holds of a job it submitted.

use std::rc::Rc;

use ocluster_api::cluster_capnp::ticket;
use ocluster_scheduling::Event;
use ocluster_vat::guarded_client;

use crate::job::Job;
use crate::state::Scheduler;

struct TicketServer {
    scheduler: Rc<Scheduler>,
    job: Rc<Job>,
}

/// A ticket for a queued job.
pub(crate) fn new_ticket(scheduler: Rc<Scheduler>, job: Rc<Job>) -> ticket::Client {
    let released = Released {
        scheduler: scheduler.clone(),
        job: job.clone(),
    };
    guarded_client(Rc::new(TicketServer { scheduler, job }), released)
}

impl ticket::Server for TicketServer {
    async fn job(
        self: Rc<Self>,
        _: ticket::JobParams,
        mut results: ticket::JobResults,
    ) -> capnp::Result<()> {
        results.get().set_job(self.job.capability());
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: ticket::CancelParams,
        _: ticket::CancelResults,
    ) -> capnp::Result<()> {
        match self.job.run()? {
            Some(run) => run.cancel(),
            None => cancel_queued(&self.scheduler, &self.job, "Ticket cancelled"),
        }
        Ok(())
    }
}

/// What all references to a ticket share: when the last one goes, the job is cancelled if it is queued, and loses one reference if
/// it runs.
struct Released {
    scheduler: Rc<Scheduler>,
    job: Rc<Job>,
}

impl Drop for Released {
    fn drop(&mut self) {
        if matches!(self.job.run(), Ok(None)) {
            cancel_queued(&self.scheduler, &self.job, "Ticket released (cancelled)");
        }
        self.job.drop_ticket_reference();
    }
}

fn cancel_queued(scheduler: &Rc<Scheduler>, job: &Job, reason: &'static str) {
    job.set_cancel_reason(reason);
    scheduler.post(Event::Cancelled { job: job.id });
}
