//! Taking a job: asking for it, and starting what the scheduler gives.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::JobSpec;
use ocluster_api::cluster_capnp::job_descr;
use ocluster_joblog::LogReader;
use ocluster_vat::RpcError;
use tokio::sync::watch;
use tracing::{info, warn};

use super::joining::Membership;
use crate::agent::Agent;
use crate::job::{self, Control, Lease, Offered};
use crate::metrics::JobEnd;
use crate::runner;
use crate::slots::Taken;

/// How often it is tried to remove a log that somebody may still be reading.
const REMOVALS: u32 = 5;
/// How long to wait in between.
const BETWEEN_REMOVALS: Duration = Duration::from_millis(500);

/// Asks for one job, waits for it, and starts it.
///
/// # Errors
/// The scheduler's. There is no job then.
pub(super) async fn take_job(agent: &Rc<Agent>, member: &Membership) -> Result<(), RpcError> {
    info!("Requesting a new job…");
    let (job, offered) = job::offer(&agent.held);
    let Some(queue) = &member.leased else {
        let mut request = member.queue.pop_request();
        request.get().set_job(job.cast_to());
        let answer = request.send().promise.await?;
        start(agent, answer.get()?.get_descr()?, offered, None);
        return Ok(());
    };
    let mut request = queue.pop_leased_request();
    request.get().set_job(job);
    let answer = request.send().promise.await?;
    let answer = answer.get()?;
    let lease = answer.get_durable().then(|| Lease {
        job: answer.get_id(),
        attempt: answer.get_attempt(),
    });
    start(agent, answer.get_descr()?, offered, lease);
    Ok(())
}

/// How many slots a job takes. One whose hint cannot be read takes one, and fails soon.
fn weight(agent: &Agent, descr: job_descr::Reader<'_>) -> u32 {
    let hint = descr.get_cache_hint().ok();
    let hint = hint.and_then(|hint| hint.to_str().ok());
    agent.config.weights.of(hint.unwrap_or_default())
}

/// Takes as many slots as a job weighs.
fn take_slots(agent: &Agent, weight: u32, id: u64) -> Taken {
    let taken = agent.slots.take(weight);
    let (in_use, capacity) = (agent.slots.in_use(), agent.slots.capacity());
    if in_use > capacity {
        info!(
            job = id,
            "A job takes {weight} slots, so that {in_use} of {capacity} are in use: asking for no other until it fits"
        );
    }
    taken
}

/// Waits until nobody can want anything of a job any more.
async fn over(control: &Control, log: &watch::Sender<Option<LogReader>>) {
    if control.is_attached() {
        // The scheduler reads on until it lets go of the job.
        log.closed().await;
    } else {
        control.forgotten().cancelled().await;
    }
}

/// Starts a job on the pool of ordinary threads.
fn start(agent: &Rc<Agent>, descr: job_descr::Reader<'_>, offered: Offered, lease: Option<Lease>) {
    let id = agent.next_job.replace(agent.next_job.get() + 1);
    let weight = weight(agent, descr);
    let counted = agent.config.metrics.job_started(weight);
    let spool = match agent.spool.create(id) {
        Ok(spool) => spool,
        Err(error) => {
            warn!(job = id, %error, "Cannot keep a job's log, so the job fails");
            counted.ended(JobEnd::Error);
            return;
        }
    };
    offered.log.send_replace(Some(spool.reader()));
    let spec = JobSpec::read(descr).map_err(|error| error.to_string());
    match lease {
        Some(lease) => {
            offered.control.lease();
            info!(
                job = id,
                number = lease.job,
                attempt = lease.attempt,
                "Starting a job"
            );
            agent.held.keep(lease, offered.server());
        }
        None => {
            offered.control.attach();
            info!(job = id, "Starting a job");
        }
    }
    let Offered {
        log,
        outcome,
        control,
        ..
    } = offered;
    let runner = agent.runner.clone();
    let cancel = control.cancel_token().clone();
    let stop = agent.stop_jobs.clone();
    let trouble = agent.trouble.clone();
    let taken = take_slots(agent, weight, id);
    #[expect(
        clippy::async_yields_async,
        reason = "the wait for the log's disk outlives the job"
    )]
    let running = agent.pool.spawn(async move {
        let cancelled = cancel.clone();
        let run = runner.run(spec, spool, cancel);
        tokio::pin!(run);
        let ran = tokio::select! {
            ran = &mut run => ran,
            () = stop.cancelled() => {
                cancelled.cancel();
                run.await
            }
        };
        runner::report(id, &ran.result);
        trouble.note(&ran.result);
        counted.ended(JobEnd::from(&ran.result));
        outcome.send_replace(Some(ran.result));
        // Only the next job waits for this.
        ran.leftovers.remove().await;
        drop(taken);
        ran.log_recorded
    });
    let agent = agent.clone();
    tokio::task::spawn_local(async move {
        // A crash of the task itself shows as a job that was never started.
        let log_recorded = running.await;
        over(&control, &log).await;
        log.send_replace(None);
        drop(log);
        if let Ok(log_recorded) = log_recorded {
            log_recorded.await;
        }
        remove_log(&agent, id).await;
    });
}

async fn remove_log(agent: &Agent, id: u64) {
    // Those who were reading it when it was forgotten are just leaving.
    for _ in 1..REMOVALS {
        if agent.spool.remove(id).await {
            return;
        }
        tokio::time::sleep(BETWEEN_REMOVALS).await;
    }
    if !agent.spool.remove(id).await {
        warn!(
            job = id,
            "Cannot remove a job's spooled log; it will be removed at the next start"
        );
    }
}
