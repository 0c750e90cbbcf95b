//! Workers that come back say which jobs they still have. Each is held against what is known here: only the present attempt, of this
//! very worker, goes on; everything else is refused, and told why.

use std::collections::HashSet;
use std::rc::Rc;

use ocluster_api::extensions_capnp::leased_job;
use ocluster_scheduling::{Event, JobId};
use tracing::{info, warn};

use super::attempt::{Attempt, Displaced, Seat};
use super::job::DurableJob;
use super::source::WorkerJob;
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// A job that a worker says it has.
pub(crate) struct Declared {
    pub(crate) id: JobId,
    pub(crate) attempt: u32,
    /// Bytes of the attempt's log that it has.
    pub(crate) log_length: u64,
    pub(crate) job: leased_job::Client,
}

/// What becomes of it: it goes on, or why not.
pub(crate) type Held = Result<(), String>;

/// Meets a worker that has just joined. What it was given and does not have any more is tried again elsewhere.
pub(crate) fn readopt(
    scheduler: &Rc<Scheduler>,
    session: &Rc<WorkerSession>,
    declared: Vec<Declared>,
) -> Vec<Held> {
    let mut seen = HashSet::new();
    let verdicts = declared
        .into_iter()
        .map(|one| {
            if !seen.insert(one.id) {
                return Err("it is declared twice".to_owned());
            }
            let (id, number) = (one.id, one.attempt);
            let verdict = adopt(scheduler, session, one);
            let shown = ocluster_store::JobId::new(id.0);
            match &verdict {
                Ok(()) => {
                    info!(job = %shown, worker = %session.name, attempt = number, "The worker is back with a job");
                }
                Err(reason) => {
                    warn!(job = %shown, worker = %session.name, attempt = number, "A job that the worker brings is refused: {reason}");
                }
            }
            verdict
        })
        .collect();
    for job in scheduler.jobs_on(session) {
        if let Some(attempt) = job.under_way()
            && attempt.identity == session.identity
            && session.identity.is_some()
            && !is_seated(&attempt, session)
        {
            attempt.displace(Displaced {
                code: "worker-lost",
                sentence: format!("the worker \"{}\" came back without the job", session.name),
                // Perhaps it never heard of it, because the scheduler was killed in that moment.
                counts: attempt.seen.get() || attempt.received.get() > 0,
            });
        }
    }
    verdicts
}

fn is_seated(attempt: &Attempt, session: &WorkerSession) -> bool {
    let seat = attempt.seat.borrow();
    seat.as_ref()
        .is_some_and(|seat| seat.session.id == session.id)
}

fn adopt(scheduler: &Rc<Scheduler>, session: &Rc<WorkerSession>, declared: Declared) -> Held {
    let number = declared.attempt;
    // The same answer for jobs that never were, are over, or are others'.
    let unknown = || Err("this worker has no such job (any more)".to_owned());
    let Some(job) = scheduler.durable(declared.id) else {
        return unknown();
    };
    if job.pool != session.pool {
        return unknown();
    }
    let Some(attempt) = job.under_way() else {
        return Err(format!("attempt {number} is over"));
    };
    if attempt.worker != session.name || attempt.number != number {
        return Err(format!("attempt {number} is over"));
    }
    if attempt.identity.is_none() || attempt.identity != session.identity {
        return unknown();
    }
    if attempt.stop.is_cancelled() {
        return Err("it was cancelled".to_owned());
    }
    if attempt.displaced().is_some() {
        return Err(format!("attempt {number} is over"));
    }
    let received = attempt.received.get();
    if declared.log_length < received {
        attempt.displace(Displaced {
            code: "worker-log-lost",
            sentence: format!(
                "the worker \"{}\" has lost a part of the job's log",
                session.name
            ),
            counts: true,
        });
        return Err(format!(
            "its log has {} bytes, and {received} were seen before",
            declared.log_length
        ));
    }
    take_on(scheduler, session, &job, &attempt, declared.job)
}

fn take_on(
    scheduler: &Rc<Scheduler>,
    session: &Rc<WorkerSession>,
    job: &DurableJob,
    attempt: &Attempt,
    worker_job: leased_job::Client,
) -> Held {
    // The registration under which it was counted so far is over.
    scheduler.uncount(job, attempt);
    let adopted = scheduler.handle(Event::Adopted {
        worker: session.id,
        job: job.id,
        client: job.client.clone(),
        hint: job.hint.clone(),
    });
    if let Err(refusal) = adopted {
        return Err(refusal.to_string());
    }
    attempt.counted.set(true);
    attempt.seat.send_replace(Some(Seat {
        session: session.clone(),
        job: WorkerJob::Leased(worker_job),
    }));
    scheduler.job_changed(job.id, &job.client);
    Ok(())
}
