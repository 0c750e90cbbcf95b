//! Following a job on its worker: waits for its result, copies its log, passes a cancel on, and writes down how it ended.
//!
//! What clients are told depends on nothing here that waits for a disk: the result is theirs as soon as the worker has given it.

use std::rc::Rc;
use std::time::Duration;

use ocluster_api::cluster_capnp::job;
use ocluster_joblog::{End, LogInfo, LogWriter, WriteError};
use ocluster_store::JobState;
use ocluster_vat::RpcError;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::job::Job;
use crate::job_run::Run;
use crate::state::Scheduler;
use crate::tail::{self, TailEnd};
use crate::time_limits::{RunLimits, STOP_GRACE, sleep_until};

/// Follows a job until both its result and its log are here.
pub(crate) async fn follow(
    scheduler: Rc<Scheduler>,
    job: Rc<Job>,
    run: Rc<Run>,
    worker_job: job::Client,
    log: LogWriter,
) {
    let ended = async {
        let limits = RunLimits::new(job.limits(&scheduler), Duration::ZERO);
        let outcome = outcome(&run, &worker_job, &limits).await;
        let state = state_after(&run, &outcome);
        info!(job = %job.id, worker = %run.worker_name(), state = state.name(), "Job ended");
        run.end(outcome, state, scheduler.now_ms());
        scheduler.write_job(job.record(&run));
        scheduler.job_finished(job.id);
    };
    let ((), log_recorded) = tokio::join!(ended, keep_log(&run, &worker_job, log));
    // Once more, with the length of the whole log.
    scheduler.write_job(job.record(&run));
    if let Err(error) = log_recorded.await {
        warn!(job = %job.id, %error, "Cannot complete this job's log");
        scheduler.write_job(job.record(&run));
    }
}

/// Copies the job's log, and ends the copy as the worker's own log ends. Gives what becomes of that on the disk, for which nobody waits.
async fn keep_log(
    run: &Run,
    worker_job: &job::Client,
    mut log: LogWriter,
) -> impl Future<Output = Result<LogInfo, WriteError>> + use<> {
    // Its words are for others.
    let told = async || drop(run.outcome().await);
    let copied = |_, _: &LogWriter| run.last_output.set(Instant::now());
    let end = match tail::copy(worker_job, 0, &mut log, told, copied).await {
        TailEnd::Complete => End::Closed,
        TailEnd::Worker(error) => End::Broken {
            reason: run.explain_loss(error).to_string(),
        },
        TailEnd::Disk(error) => End::Broken {
            reason: RpcError::Failed(format!("The rest of this log could not be kept: {error}"))
                .to_string(),
        },
    };
    log.finish_unhurried(end)
}

/// Waits for the job's result. A cancel is passed on to the worker once.
async fn outcome(
    run: &Run,
    worker_job: &job::Client,
    limits: &RunLimits,
) -> Result<String, RpcError> {
    let result = worker_job.result_request().send().promise;
    tokio::pin!(result);
    let mut told_to_cancel = false;
    let mut patience = None;
    let response = loop {
        tokio::select! {
            response = &mut result => break response,
            () = run.cancelled(), if !told_to_cancel => {
                told_to_cancel = true;
                // The answer says nothing: the result will tell.
                tokio::task::spawn_local(worker_job.cancel_request().send().promise);
            }
            cause = limits.passed(Some(&run.last_output)), if patience.is_none() => {
                patience = Some(Instant::now() + STOP_GRACE);
                run.time_out(cause);
            }
            () = sleep_until(patience) => break Err(capnp::Error::failed("Build cancelled".to_owned())),
            () = run.never_reached_the_worker() => {
                return Err(RpcError::Disconnected(format!(
                    "the worker \"{}\" withdrew its request as it was given this job",
                    run.worker_name()
                )));
            }
        }
    };
    if let Some(cause) = run.timed_out() {
        return Err(RpcError::Failed(format!("Timed out: {}", cause.sentence)));
    }
    response
        .and_then(|response| Ok(response.get()?.get_output()?.to_string()?))
        .map_err(|error| run.explain_loss(error.into()))
}

fn state_after(run: &Run, outcome: &Result<String, RpcError>) -> JobState {
    match outcome {
        Ok(_) => JobState::Passed,
        Err(RpcError::Disconnected(_)) => JobState::Lost,
        Err(_) if run.timed_out().is_some() => JobState::TimedOut,
        Err(error) if run.is_cancelled() || error.reason() == "Build cancelled" => {
            JobState::Cancelled
        }
        Err(_) => JobState::Failed,
    }
}
