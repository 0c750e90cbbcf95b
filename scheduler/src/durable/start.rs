//! A worker is given a durable job: the attempt is on disk before the worker hears of it.

use std::rc::Rc;

use ocluster_api::Descriptor;
use ocluster_joblog::LogWriter;
use ocluster_scheduling::{PopId, WorkerId};
use ocluster_store::{Cause, Change, StoreError};
use ocluster_vat::error as rpc_error;
use tokio::sync::oneshot;
use tracing::warn;

use super::attempt::{Attempt, Seat};
use super::attend;
use super::job::{DurableJob, Phase};
use super::source::WorkerJob;
use super::verdict::{self, AttemptEnd};
use crate::asked_pop::{Given, Lease, PopAnswer};
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// Gives `job` to a worker that asked, and follows it there.
pub(crate) fn give(
    scheduler: &Rc<Scheduler>,
    job: Rc<DurableJob>,
    session: Rc<WorkerSession>,
    worker_job: WorkerJob,
    (pop, answer): (PopId, oneshot::Sender<PopAnswer>),
) {
    let request = Request {
        worker: session.id,
        pop,
        job: worker_job.clone(),
        answer,
    };
    let number = job.attempt.get() + 1;
    job.attempt.set(number);
    let kept = job.log.take();
    let log = match kept.map_or_else(|| scheduler.create_log(job.id, &job.client), Ok) {
        Ok(log) => Ok(log),
        Err(error) => {
            warn!(job = %job.store_id(), %error, "Cannot keep this job's log");
            Err(error.to_string())
        }
    };
    let identity = if worker_job.survives() {
        session.identity
    } else {
        None
    };
    let attempt = Attempt::new(
        number,
        session.name.clone(),
        identity,
        scheduler.now_ms(),
        log.as_ref().map_or(0, LogWriter::length),
        Some(Seat {
            session,
            job: worker_job,
        }),
    );
    attempt.counted.set(true);
    if job.stop.borrow().is_some() {
        attempt.stop.cancel();
    }
    job.move_to(Phase::Taken(attempt.clone()));
    scheduler.durable_taken(&job);
    let (tasks, scheduler) = (scheduler.tasks().clone(), scheduler.clone());
    tasks.spawn_local(async move {
        match log {
            Ok(log) => begin(&scheduler, &job, &attempt, log, request).await,
            Err(why) => {
                let sentence = format!("The scheduler cannot keep this job's log: {why}");
                request.again(&scheduler);
                let cause = Cause {
                    code: "scheduler-log".to_owned(),
                    sentence,
                };
                let end = AttemptEnd::Impossible(cause);
                verdict::conclude(&scheduler, &job, &attempt, None, end).await;
            }
        }
    });
}

async fn begin(
    scheduler: &Rc<Scheduler>,
    job: &Rc<DurableJob>,
    attempt: &Rc<Attempt>,
    log: LogWriter,
    request: Request,
) {
    // Before anything is waited for, so that the record is written behind the submission and before any later change.
    let recorded = scheduler
        .records()
        .commit(vec![Change::JobRecorded(Box::new(job.record()))]);
    let descriptor = description(scheduler, job).await;
    let recorded = match recorded.await {
        Err(StoreError::Busy { .. }) => {
            let change = Change::JobRecorded(Box::new(job.record()));
            scheduler.records().commit_in_time(vec![change]).await
        }
        done => done,
    };
    scheduler.job_changed(job.id, &job.client);
    let descriptor = match descriptor {
        Ok(descriptor) => descriptor,
        Err(sentence) => {
            warn!(job = %job.store_id(), "{sentence}");
            request.again(scheduler);
            let cause = Cause {
                code: "description-lost".to_owned(),
                sentence,
            };
            let end = AttemptEnd::Impossible(cause);
            return verdict::conclude(scheduler, job, attempt, Some(log), end).await;
        }
    };
    if let Err(error) = recorded {
        let sentence = format!("The scheduler could not write down that the job began: {error}");
        request.refuse(&sentence);
        let end = AttemptEnd::Nothing {
            cause: Cause {
                code: "scheduler-store".to_owned(),
                sentence,
            },
            counts: false,
        };
        return verdict::conclude(scheduler, job, attempt, Some(log), end).await;
    }
    let given = Given {
        descriptor,
        lease: Some(Lease {
            id: job.id,
            attempt: attempt.number,
        }),
        lost: attempt.lost_on_the_way.clone(),
    };
    if let Err(Ok(given)) = request.answer.send(Ok(given)) {
        given.lost.cancel();
    }
    attend::attend(scheduler, job, attempt, log, None).await;
}

/// The worker's request for a job, which has to be answered some time.
struct Request {
    worker: WorkerId,
    pop: PopId,
    job: WorkerJob,
    answer: oneshot::Sender<PopAnswer>,
}

impl Request {
    /// This job is not for it, and that is not the worker's concern: it gets another.
    fn again(self, scheduler: &Rc<Scheduler>) {
        scheduler.ask_again(self.worker, self.pop, self.job, self.answer);
    }

    /// There is nothing to be given at all. The worker will ask again.
    fn refuse(self, sentence: &str) {
        // If it has gone, there is nobody to tell.
        let _ = self.answer.send(Err(rpc_error::failed(sentence)));
    }
}

/// What is to be done: from memory if it is there, else from disk.
async fn description(scheduler: &Scheduler, job: &DurableJob) -> Result<Descriptor, String> {
    if let Some(kept) = &*job.description.borrow() {
        return Ok(kept.descriptor.clone());
    }
    let sealed = scheduler
        .records()
        .store()
        .description(job.store_id())
        .await
        .map_err(|error| format!("the description of this job cannot be read: {error}"))?
        .ok_or("the description of this job is not on disk any more")?;
    let plain = scheduler
        .table()
        .seal
        .open(job.store_id(), &sealed)
        .map_err(|error| format!("the description of this job cannot be read: {error}"))?;
    Descriptor::from_bytes(&plain)
        .map_err(|error| format!("the description of this job is damaged: {error}"))
}
