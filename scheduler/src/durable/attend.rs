//! Seeing an attempt through: on the worker, while the worker is away, and on the worker again.
//!
//! The task that does this is the only one that decides how the attempt ends; others leave word with the attempt.

use std::rc::Rc;

use ocluster_joblog::LogWriter;
use ocluster_store::Cause;
use ocluster_vat::RpcError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::attempt::{Attempt, Seat};
use super::job::DurableJob;
use super::verdict::{self, AttemptEnd};
use crate::state::Scheduler;
use crate::tail::TailEnd;
use crate::time_limits::{RunLimits, STOP_GRACE, sleep_until};

/// Follows an attempt to its end, and sees to what becomes of the job. `back_by`: the worker is away, and may come back until then.
pub(crate) async fn attend(
    scheduler: &Rc<Scheduler>,
    job: &Rc<DurableJob>,
    attempt: &Rc<Attempt>,
    mut log: LogWriter,
    back_by: Option<Instant>,
) {
    let end = tokio::select! {
        end = see_through(scheduler, job, attempt, &mut log, back_by) => end,
        // The job goes on without us, and the next start finds it where it is.
        () = scheduler.stops() => return,
    };
    verdict::conclude(scheduler, job, attempt, Some(log), end).await;
}

/// What a stretch of an attempt leads to.
enum Step {
    End(AttemptEnd),
    /// The connection to the worker is lost.
    Away,
    /// The worker is reached in another way.
    Moved,
}

async fn see_through(
    scheduler: &Rc<Scheduler>,
    job: &DurableJob,
    attempt: &Attempt,
    log: &mut LogWriter,
    back_by: Option<Instant>,
) -> AttemptEnd {
    let mut back_by = back_by.unwrap_or_else(Instant::now);
    let limits = RunLimits::new(job.limits, attempt.age(scheduler.now_ms()));
    loop {
        let seat = attempt.seat.borrow().clone();
        let step = match &seat {
            Some(seat) => at_worker(scheduler, job, attempt, log, seat, &limits).await,
            None => away(scheduler, job, attempt, back_by, &limits).await,
        };
        match (step, seat) {
            (Step::End(end), _) => return end,
            (Step::Away, Some(seat)) => {
                let is_same = |now: &Option<Seat>| {
                    now.as_ref()
                        .is_some_and(|now| now.session.id == seat.session.id)
                };
                if !is_same(&attempt.seat.borrow()) {
                    continue;
                }
                attempt.seat.send_replace(None);
                scheduler.uncount(job, attempt);
                scheduler.job_changed(job.id, &job.client);
                if !seat.job.survives() {
                    return lost(attempt, "its connection was lost");
                }
                let silent = seat.session.connection.last_received();
                back_by = Instant::now() + scheduler.table().lease.saturating_sub(silent);
                info!(
                    job = %job.store_id(),
                    worker = %attempt.worker,
                    "The worker is away with a job; it has {:.0} s to come back",
                    back_by.duration_since(Instant::now()).as_secs_f64()
                );
            }
            _ => {}
        }
    }
}

/// The worker did not come back in time.
fn lost(attempt: &Attempt, how: &str) -> AttemptEnd {
    if let Some(outcome) = attempt.reported.take() {
        let broken = format!("the worker was lost before the log was complete: {how}");
        return AttemptEnd::Reported {
            outcome,
            broken: Some(broken),
        };
    }
    AttemptEnd::Nothing {
        cause: Cause {
            code: "worker-lost".to_owned(),
            sentence: format!("the worker \"{}\" was lost: {how}", attempt.worker),
        },
        // A worker that keeps nothing has lost it with the scheduler, and is not to blame.
        counts: attempt.seen.get() || attempt.identity.is_some(),
    }
}

async fn at_worker(
    scheduler: &Rc<Scheduler>,
    job: &DurableJob,
    attempt: &Attempt,
    log: &mut LogWriter,
    seat: &Seat,
    limits: &RunLimits,
) -> Step {
    attempt.seen.set(true);
    attempt.last_output.set(Instant::now());
    let known = CancellationToken::new();
    let work = async {
        let outcome = async {
            let outcome = seat.job.outcome().await;
            known.cancel();
            outcome
        };
        let copied = seat.job.copy_log(attempt, log, &known);
        tokio::join!(outcome, copied)
    };
    tokio::select! {
        // What the worker says of itself comes first.
        biased;
        (outcome, copied) = work => reported(attempt, seat, outcome, copied),
        step = control(scheduler, job, attempt, seat, limits) => step,
    }
}

fn reported(
    attempt: &Attempt,
    seat: &Seat,
    outcome: Result<super::source::Outcome, RpcError>,
    copied: TailEnd,
) -> Step {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(RpcError::Disconnected(_)) => return Step::Away,
        Err(error) => {
            return Step::End(AttemptEnd::Nothing {
                cause: Cause {
                    code: "worker-error".to_owned(),
                    sentence: format!(
                        "the worker \"{}\" cannot say what became of the job: {}",
                        attempt.worker,
                        error.reason()
                    ),
                },
                counts: true,
            });
        }
    };
    let broken = match copied {
        TailEnd::Complete => outcome
            .log_length
            .filter(|length| *length > attempt.received.get())
            .map(|length| {
                format!(
                    "the worker says that it has {length} bytes of log, and gave {}",
                    attempt.received.get()
                )
            }),
        TailEnd::Worker(RpcError::Disconnected(_)) if seat.job.survives() => {
            // It keeps both until we have them.
            attempt.reported.replace(Some(outcome));
            return Step::Away;
        }
        TailEnd::Worker(RpcError::Disconnected(_)) => {
            Some("the worker was lost before the log was complete".to_owned())
        }
        TailEnd::Worker(error) => Some(error.reason().to_owned()),
        TailEnd::Disk(error) => Some(format!("the rest could not be kept: {error}")),
    };
    Step::End(AttemptEnd::Reported { outcome, broken })
}

/// Heeds everything that is not the worker's own doing.
async fn control(
    scheduler: &Rc<Scheduler>,
    job: &DurableJob,
    attempt: &Attempt,
    seat: &Seat,
    limits: &RunLimits,
) -> Step {
    let mut seats = attempt.seat.subscribe();
    seats.mark_unchanged();
    let mut told_to_stop: Option<Instant> = None;
    loop {
        let patience = told_to_stop.map(|told| told + STOP_GRACE);
        tokio::select! {
            () = attempt.stop.cancelled(), if told_to_stop.is_none() => {
                told_to_stop = Some(Instant::now());
                seat.job.cancel();
            }
            cause = limits.passed(Some(&attempt.last_output)), if told_to_stop.is_none() => {
                scheduler.stop_for(job, cause);
            }
            displaced = attempt.until_displaced() => {
                seat.job.cancel();
                return Step::End(AttemptEnd::of(displaced));
            }
            () = attempt.lost_on_the_way.cancelled() => {
                return Step::End(AttemptEnd::Nothing {
                    cause: Cause {
                        code: "worker-withdrew".to_owned(),
                        sentence: format!("the worker \"{}\" withdrew its request as it was given the job", attempt.worker),
                    },
                    counts: false,
                });
            }
            _ = seats.changed() => {
                let now = attempt.seat.borrow();
                let same = now.as_ref().is_some_and(|now| now.session.id == seat.session.id);
                if !same {
                    return Step::Moved;
                }
            }
            () = sleep_until(patience) => return Step::End(AttemptEnd::Stopped),
        }
    }
}

async fn away(
    scheduler: &Rc<Scheduler>,
    job: &DurableJob,
    attempt: &Attempt,
    back_by: Instant,
    limits: &RunLimits,
) -> Step {
    let mut seats = attempt.seat.subscribe();
    if attempt.is_connected() {
        return Step::Moved;
    }
    tokio::select! {
        _ = seats.wait_for(Option::is_some) => Step::Moved,
        () = attempt.stop.cancelled() => Step::End(AttemptEnd::Stopped),
        cause = limits.passed(None) => {
            scheduler.stop_for(job, cause);
            Step::End(AttemptEnd::Stopped)
        }
        displaced = attempt.until_displaced() => Step::End(AttemptEnd::of(displaced)),
        () = tokio::time::sleep_until(back_by) => Step::End(lost(attempt, "it gave no sign of life")),
    }
}
