//! One stay in the pool: from the connection to its end. Registers, asks for work whenever a slot is free, starts what it gets.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::JobSpec;
use ocluster_api::cluster_capnp::{job_descr, queue, registration};
use ocluster_cli::Backoff;
use ocluster_vat::{Connection, DialOptions, RpcError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::disk_care::Place;
use crate::job::{self, Offered};
use crate::metrics::JobEnd;
use crate::runner;
use crate::service::WorkerServer;
use crate::slots::Taken;
use crate::standing::Standing;

/// A scheduler that was silent for this long is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(4);
/// A scheduler that was silent for this long is taken for dead.
const PING_TIMEOUT: Duration = Duration::from_secs(12);
/// How long the scheduler may take to accept a registration. It may have to find out first whether an older one is dead.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a scheduler that refuses to give a job is asked again in one stay. Running jobs go on meanwhile; after that, registering
/// anew may help.
const REFUSALS: u32 = 2;
/// How long to say goodbye for.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a stay ended before it was to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The next one may last longer.
    #[error("{0}")]
    Connection(String),
    /// No other will do better with this capability.
    #[error(
        "the scheduler takes no workers under this capability, so it is not a pool's: start the worker with the scheduler's \
         pool-NAME.cap ({0})"
    )]
    NotAPool(RpcError),
}

/// Connects, joins the pool and works until the connection is lost or `shutdown` fires.
///
/// # Errors
/// Why the stay ended before `shutdown`.
pub(crate) async fn stay(agent: &Rc<Agent>, shutdown: &CancellationToken) -> Result<(), Lost> {
    let options = DialOptions::default();
    let connect = ocluster_cli::connect(&agent.vat, &agent.config.cap, &options);
    let connection = tokio::select! {
        connected = connect => connected.map_err(|error| Lost::Connection(error.to_string()))?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let joined = tokio::select! {
        joined = join(agent, &connection) => joined,
        () = shutdown.cancelled() => {
            hang_up(&connection, "The worker is leaving").await;
            return Ok(());
        }
    };
    let queue = match joined {
        Ok(queue) => queue,
        Err(error) => {
            hang_up(&connection, "The worker could not register").await;
            return Err(match error {
                RpcError::Unimplemented(_) => Lost::NotAPool(error),
                other => Lost::Connection(other.to_string()),
            });
        }
    };
    info!("Registered as \"{}\"", agent.config.name);
    agent.status.registered();
    let object = queue.clone().cast_to();
    let standing = Standing::new(agent.engine.health.clone());
    let ended = tokio::select! {
        reason = ocluster_vat::watch(&connection, &object, PING_INTERVAL, PING_TIMEOUT) => Err(reason.to_string()),
        error = work(agent, &queue, &standing) => Err(error.to_string()),
        error = standing.keep_told(&queue) => Err(error.to_string()),
        () = shutdown.cancelled() => Ok(()),
    };
    // Leaves the pool before the connection goes, so that the scheduler need not find out.
    drop(queue);
    hang_up(&connection, "The worker is leaving").await;
    ended.map_err(Lost::Connection)
}

/// Ends a connection with a word, and gives it a moment to be sent.
async fn hang_up(connection: &Connection, reason: &str) {
    connection.disconnect(reason);
    // Without an answer it is gone anyway.
    let _ = tokio::time::timeout(GOODBYE, connection.closed()).await;
}

async fn join(agent: &Rc<Agent>, connection: &Connection) -> Result<queue::Client, RpcError> {
    let registration: registration::Client = connection.bootstrap(&agent.config.cap.id);
    let mut request = registration.register_request();
    let mut params = request.get();
    params.set_name(&agent.config.name);
    params.set_capacity(i32::try_from(agent.config.capacity).unwrap_or(i32::MAX));
    params.set_worker(capnp_rpc::new_client(WorkerServer::new(agent.clone())));
    match tokio::time::timeout(REGISTER_TIMEOUT, request.send().promise).await {
        Ok(answer) => Ok(answer?.get()?.get_queue()?),
        Err(_) => Err(RpcError::Failed(
            "the scheduler did not answer the registration".into(),
        )),
    }
}

/// Waits while jobs fail because of this machine. If that takes long, the scheduler hears of it, so that jobs go to others and people
/// see why.
async fn hold_back(agent: &Agent, standing: &Standing) {
    if !agent.trouble.lasts() {
        return agent.trouble.pause().await;
    }
    standing
        .pause("jobs fail because of this machine".to_owned())
        .await;
    agent.trouble.pause().await;
    standing.resume();
}

/// Takes jobs as long as the scheduler gives them. While jobs fail because of this machine, it takes them ever more slowly, so that
/// one broken worker does not fail the whole queue. A scheduler in trouble is asked again, and again by the next stay.
async fn work(agent: &Rc<Agent>, queue: &queue::Client, standing: &Standing) -> RpcError {
    let mut refusals = 0;
    let mut backoff = Backoff::new();
    loop {
        agent.slots.one_free().await;
        standing.good().await;
        let place = Pool { agent, standing };
        if let Some(care) = &agent.disk_care {
            care.keep_room(&place).await;
        }
        hold_back(agent, standing).await;
        standing.good().await;
        let Err(error) = take_job(agent, queue).await else {
            refusals = 0;
            backoff = Backoff::new();
            continue;
        };
        refusals += 1;
        if error.is_disconnected() || refusals > REFUSALS {
            return error;
        }
        let wait = backoff.after(Duration::ZERO);
        warn!(
            "The scheduler gives no job ({error}). Will ask again in {:.1}s…",
            wait.as_secs_f64()
        );
        tokio::time::sleep(wait).await;
    }
}

/// The worker's place in the pool, as those see it who want no jobs for a while.
struct Pool<'a> {
    agent: &'a Agent,
    standing: &'a Standing,
}

impl Place for Pool<'_> {
    async fn pause(&self, reason: String) {
        self.standing.pause(reason).await;
    }

    fn resume(&self) {
        self.standing.resume();
    }

    async fn jobs_done(&self) {
        self.agent.slots.all_free().await;
    }
}

async fn take_job(agent: &Rc<Agent>, queue: &queue::Client) -> Result<(), RpcError> {
    info!("Requesting a new job…");
    let (job, offered) = job::offer();
    let mut request = queue.pop_request();
    request.get().set_job(job);
    let answer = request.send().promise.await?;
    start(agent, answer.get()?.get_descr()?, offered);
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

/// Starts a job on the pool of ordinary threads.
fn start(agent: &Rc<Agent>, descr: job_descr::Reader<'_>, offered: Offered) {
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
    let runner = agent.runner.clone();
    let Offered {
        outcome,
        cancel,
        log,
    } = offered;
    let stop = agent.stop_jobs.clone();
    let trouble = agent.trouble.clone();
    let taken = take_slots(agent, weight, id);
    info!(job = id, "Starting a job");
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
        // The scheduler reads on until it lets go of the job.
        log.closed().await;
        drop(log);
        if let Ok(log_recorded) = log_recorded {
            log_recorded.await;
        }
        if !agent.spool.remove(id).await {
            warn!(
                job = id,
                "Cannot remove a job's spooled log; it will be removed at the next start"
            );
        }
    });
}
