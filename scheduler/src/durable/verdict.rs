//! What becomes of a durable job after an attempt: it is over, or it is queued again.
//!
//! Nobody hears that it is over before that is on disk, and the worker keeps its part until then.

use std::rc::Rc;

use bytes::Bytes;
use ocluster_joblog::{End, LogWriter};
use ocluster_store::{Attempt as PastAttempt, Cause, Change, JobState};
use tracing::{error, info, warn};

use super::attempt::{Attempt, Displaced, Seat};
use super::job::{DurableJob, Phase};
use super::source::Outcome;
use crate::state::Scheduler;

/// The code of a job that could not be written down when it was submitted.
pub(crate) const NOT_ACCEPTED: &str = "not-accepted";
/// The code of a job whose client is not one any more.
pub(crate) const ACCESS_REVOKED: &str = "access-revoked";

/// How an attempt ended.
pub(crate) enum AttemptEnd {
    /// The worker said how.
    Reported {
        outcome: Outcome,
        /// Why the log is not whole, if it is not.
        broken: Option<String>,
    },
    /// Somebody wanted the job to end, and it has, or the worker does not answer.
    Stopped,
    /// It came to nothing, and the job may be tried again.
    Nothing {
        cause: Cause,
        /// Whether it counts against the bound on attempts.
        counts: bool,
    },
    /// The job can never run.
    Impossible(Cause),
}

impl AttemptEnd {
    pub(crate) fn of(displaced: Displaced) -> Self {
        Self::Nothing {
            cause: Cause {
                code: displaced.code.to_owned(),
                sentence: displaced.sentence,
            },
            counts: displaced.counts,
        }
    }
}

/// How a job is over.
struct Final {
    state: JobState,
    cause: Option<Cause>,
    output: String,
    broken: Option<String>,
}

impl Final {
    fn stopped(cause: Cause) -> Self {
        Self {
            state: state_of(&cause),
            cause: Some(cause),
            output: String::new(),
            broken: None,
        }
    }
}

/// The state of a job that was made to end for this cause.
fn state_of(cause: &Cause) -> JobState {
    match cause.code.as_str() {
        "cancelled" | ACCESS_REVOKED | "pool-gone" | NOT_ACCEPTED => JobState::Cancelled,
        "worker-lost" => JobState::Lost,
        code if code.ends_with("-time-limit") => JobState::TimedOut,
        _ => JobState::Failed,
    }
}

/// Draws the conclusion from the end of an attempt.
pub(crate) async fn conclude(
    scheduler: &Rc<Scheduler>,
    job: &Rc<DurableJob>,
    attempt: &Rc<Attempt>,
    mut log: Option<LogWriter>,
    end: AttemptEnd,
) {
    attempt.over.set(true);
    let seat = attempt.seat.send_replace(None);
    scheduler.uncount(job, attempt);
    let stop = job.stop.borrow().as_deref().cloned();
    let end = match (end, stop) {
        // Whoever was promised that it will not pass is right.
        (AttemptEnd::Reported { broken, .. }, Some(cause)) => Final {
            broken,
            ..Final::stopped(cause)
        },
        (_, Some(cause)) => Final::stopped(cause),
        (AttemptEnd::Reported { outcome, .. }, None)
            if outcome.infrastructure || outcome.state == JobState::Cancelled =>
        {
            let cause = match outcome.cause {
                Some(cause) if outcome.state != JobState::Cancelled => cause,
                _ => Cause {
                    code: "worker-stopped".to_owned(),
                    sentence: "the worker stopped the job by itself".to_owned(),
                },
            };
            match again(
                scheduler,
                job,
                attempt,
                &mut log,
                seat.as_ref(),
                cause,
                true,
            )
            .await
            {
                Some(end) => end,
                None => return,
            }
        }
        (AttemptEnd::Reported { outcome, broken }, None) => Final {
            state: outcome.state,
            cause: outcome.cause,
            output: outcome.output,
            broken,
        },
        (AttemptEnd::Nothing { cause, counts }, None) => {
            match again(
                scheduler,
                job,
                attempt,
                &mut log,
                seat.as_ref(),
                cause,
                counts,
            )
            .await
            {
                Some(end) => end,
                None => return,
            }
        }
        (AttemptEnd::Impossible(cause), None) => Final {
            state: JobState::Failed,
            cause: Some(cause),
            output: String::new(),
            broken: None,
        },
        (AttemptEnd::Stopped, None) => Final::stopped(Cause {
            code: "cancelled".to_owned(),
            sentence: "it was cancelled".to_owned(),
        }),
    };
    finish(scheduler, job, Some(attempt), log, end, seat).await;
}

/// A worker that was away may have come back with the job while its end was being written down. It is told that it is over.
fn dismiss(scheduler: &Rc<Scheduler>, job: &DurableJob, attempt: &Attempt) {
    let seat = attempt.seat.send_replace(None);
    scheduler.uncount(job, attempt);
    if let Some(seat) = seat {
        seat.job.cancel();
        seat.job.settle();
    }
}

/// Queues the job again, unless it was tried often enough: then it says how it is over.
async fn again(
    scheduler: &Rc<Scheduler>,
    job: &Rc<DurableJob>,
    attempt: &Attempt,
    log: &mut Option<LogWriter>,
    seat: Option<&Seat>,
    cause: Cause,
    counts: bool,
) -> Option<Final> {
    job.remember(PastAttempt {
        number: attempt.number,
        worker: attempt.worker.as_str().to_owned(),
        started: attempt.started_ms,
        ended: scheduler.now_ms(),
        cause: cause.clone(),
        log_start: attempt.log_start,
        counts,
    });
    let bound = usize::try_from(scheduler.table().policy.max_attempts).unwrap_or(usize::MAX);
    let tried = job.failed_attempts();
    let gives_up = counts && tried >= bound.max(1);
    let next = if gives_up {
        "giving up"
    } else {
        "queued again"
    };
    info!(job = %job.store_id(), worker = %attempt.worker, attempt = attempt.number, code = cause.code, "{}: {next}", cause.sentence);
    let note = format!(
        "\n[attempt {} on worker \"{}\" came to nothing: {}; {next}]\n",
        attempt.number, attempt.worker, cause.sentence
    );
    let mut record = job.record();
    record.worker_identity = None;
    if gives_up {
        let cause = Cause {
            sentence: format!(
                "gave up after {tried} attempts; the last one: {}",
                cause.sentence
            ),
            ..cause
        };
        job.stop.borrow_mut().get_or_insert_with(|| Box::new(cause));
        record.stop = job.stop.borrow().as_deref().cloned();
    } else {
        record.state = JobState::Queued;
    }
    // Before the note is in the log: after a restart, nothing of the log may be taken for what the worker wrote.
    let written = scheduler
        .records()
        .commit_in_time(vec![Change::JobRecorded(Box::new(record))]);
    if let Err(error) = written.await {
        warn!(job = %job.store_id(), %error, "Cannot write down the end of an attempt");
    }
    if let Some(log) = log {
        // Without it the record tells.
        if let Err(error) = log.append(Bytes::from(note)).await {
            warn!(job = %job.store_id(), %error, "Cannot note the end of an attempt in the log");
        }
    }
    // What was asked for meanwhile comes first, and what nobody is left for.
    scheduler.end_without_client(job);
    let stop = job.stop.borrow().as_deref().cloned();
    if let Some(cause) = stop {
        return Some(Final::stopped(cause));
    }
    dismiss(scheduler, job, attempt);
    job.log.replace(mended(scheduler, job, log.take()).await);
    job.move_to(Phase::Queued);
    scheduler.durable_queued(job);
    if let Some(seat) = seat {
        seat.job.settle();
    }
    scheduler.post(job.requeued());
    None
}

/// A log that could not be written once is opened again, in case that it can be now.
async fn mended(
    scheduler: &Scheduler,
    job: &DurableJob,
    log: Option<LogWriter>,
) -> Option<LogWriter> {
    let log = log?;
    if !log.is_broken() {
        return Some(log);
    }
    let (id, quota) = (log.id(), scheduler.quota(&job.client).log);
    drop(log);
    let length = scheduler.logs().info(id).await.ok()?.length;
    scheduler.logs().reopen_within(id, length, quota).await.ok()
}

/// The job is over without another attempt, for what it was told to stop for.
pub(crate) async fn end_in_queue(scheduler: &Rc<Scheduler>, job: &Rc<DurableJob>, cause: Cause) {
    let log = job.log.take();
    finish(scheduler, job, None, log, Final::stopped(cause), None).await;
}

/// The job is over: completes its log, writes that down, and tells everybody.
async fn finish(
    scheduler: &Rc<Scheduler>,
    job: &Rc<DurableJob>,
    attempt: Option<&Attempt>,
    log: Option<LogWriter>,
    end: Final,
    seat: Option<Seat>,
) {
    job.ending.set(true);
    let never_accepted = end
        .cause
        .as_ref()
        .is_some_and(|cause| cause.code == NOT_ACCEPTED);
    let ended = scheduler.now_ms();
    let info = match log {
        Some(log) => {
            let close = match end.broken {
                None => End::Closed,
                Some(why) => End::Broken {
                    reason: format!("Failed: The rest of this log is missing: {why}"),
                },
            };
            match log.finish(close).await {
                Ok(info) => Some(info),
                Err(error) => {
                    warn!(job = %job.store_id(), %error, "Cannot complete this job's log");
                    None
                }
            }
        }
        None => None,
    };
    let mut record = job.final_record(end.state, end.cause, end.output, ended);
    if never_accepted {
        // So that the key is free for whoever tries again.
        record.key = None;
        record.submission_digest = None;
    }
    if let Some(info) = info {
        record.log_length = info.length;
        record.log_digest = info.digest;
    }
    let written = scheduler
        .records()
        .commit_in_time(vec![Change::JobRecorded(Box::new(record.clone()))]);
    if let Err(error) = written.await {
        // The worker still has it, and the next start will ask for it again.
        error!(job = %job.store_id(), %error, "Cannot write down how a job ended");
        return;
    }
    info!(job = %job.store_id(), state = end.state.name(), "Job ended");
    if let Some(attempt) = attempt {
        dismiss(scheduler, job, attempt);
    }
    scheduler.durable_over(job, record);
    if let Some(seat) = seat {
        seat.job.settle();
    }
}
