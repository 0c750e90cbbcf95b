//! Becoming a member of a pool, with the jobs that this worker still has from an earlier stay.
//!
//! A scheduler that knows leases says of each job whether the worker may keep it. Any other one knows none of them.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{queue, registration};
use ocluster_api::extensions_capnp::{leased_job, leased_queue, registration_endpoint};
use ocluster_vat::{Connection, RpcError, guarded_client};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::facts::Facts;
use crate::job::{JobServer, Lease, Stopped, one_line};
use crate::service::WorkerServer;

/// How long the scheduler may take to accept a worker. It may have to find out first whether an older connection is dead.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest reason of the scheduler's that is shown, in bytes.
const LONGEST_REASON: usize = 300;

/// A place in a pool.
pub(super) struct Membership {
    /// The queue, whatever the scheduler knows.
    pub(super) queue: queue::Client,
    /// The same, of a scheduler that knows leases.
    pub(super) leased: Option<leased_queue::Client>,
}

/// Joins the pool. Jobs that the worker may not keep are stopped and forgotten.
///
/// # Errors
/// The scheduler's; jobs are kept then.
pub(super) async fn join(
    agent: &Rc<Agent>,
    connection: &Connection,
) -> Result<Membership, RpcError> {
    let joining = async {
        match join_with_leases(agent, connection).await {
            Err(RpcError::Unimplemented(_)) => {
                if !agent.leases_missed.replace(true) {
                    info!(
                        "This scheduler does not know leases: jobs are cancelled when the connection to it is lost"
                    );
                }
                register(agent, connection).await
            }
            joined => joined,
        }
    };
    match tokio::time::timeout(TIMEOUT, joining).await {
        Ok(joined) => joined,
        Err(_) => Err(RpcError::Failed(
            "the scheduler did not answer the registration".into(),
        )),
    }
}

async fn join_with_leases(
    agent: &Rc<Agent>,
    connection: &Connection,
) -> Result<Membership, RpcError> {
    let facts = Facts::gather(&agent.config, &agent.pool).await;
    let held = agent.held.all();
    let registration: registration_endpoint::Client = connection.bootstrap(&agent.config.cap.id);
    let mut request = registration.join_request();
    let mut params = request.get();
    params.set_name(&agent.config.name);
    params.set_capacity(capacity(agent));
    params.set_worker(capnp_rpc::new_client(WorkerServer::new(agent.clone())));
    params.set_identity(agent.identity.expose());
    facts.write(params.reborrow().init_facts());
    let count = u32::try_from(held.len()).map_err(|_| RpcError::Failed("too many jobs".into()))?;
    let mut declared = params.init_held(count);
    for (i, (lease, job)) in (0..).zip(&held) {
        let mut declared = declared.reborrow().get(i);
        declared.set_id(lease.job);
        declared.set_attempt(lease.attempt);
        declared.set_log_length(job.log_length());
        declared.set_job(fresh_capability(job));
    }
    let answer = request.send().promise.await?;
    let answer = answer.get()?;
    let leased = answer.get_queue()?;
    let verdicts = answer.get_verdicts()?;
    for (i, (lease, job)) in (0..).zip(&held) {
        let refused = if i < verdicts.len() {
            let verdict = verdicts.get(i);
            (!verdict.get_adopted()).then(|| reason(verdict.get_reason()))
        } else {
            Some("it did not say anything about it".to_owned())
        };
        if let Some(reason) = refused {
            give_up(agent, *lease, job, &reason);
        }
    }
    Ok(Membership {
        queue: leased.clone().cast_to(),
        leased: Some(leased),
    })
}

async fn register(agent: &Rc<Agent>, connection: &Connection) -> Result<Membership, RpcError> {
    let registration: registration::Client = connection.bootstrap(&agent.config.cap.id);
    let mut request = registration.register_request();
    let mut params = request.get();
    params.set_name(&agent.config.name);
    params.set_capacity(capacity(agent));
    params.set_worker(capnp_rpc::new_client(WorkerServer::new(agent.clone())));
    let answer = request.send().promise.await?;
    let queue = answer.get()?.get_queue()?;
    for (lease, job) in agent.held.all() {
        give_up(agent, lease, &job, "it does not know leases any more");
    }
    Ok(Membership {
        queue,
        leased: None,
    })
}

fn capacity(agent: &Agent) -> i32 {
    i32::try_from(agent.config.capacity).unwrap_or(i32::MAX)
}

/// A capability to a leased job, which says nothing about how long that lives.
fn fresh_capability(job: &Rc<JobServer>) -> leased_job::Client {
    guarded_client(job.clone(), ())
}

/// What the scheduler says of its reason, for the log.
fn reason(text: capnp::Result<capnp::text::Reader<'_>>) -> String {
    let text = text.ok().and_then(|text| text.to_str().ok());
    match one_line(text.unwrap_or_default(), LONGEST_REASON) {
        reason if reason.is_empty() => "it gave no reason".to_owned(),
        reason => reason,
    }
}

/// Stops a job that the scheduler does not want from this worker any more, and forgets it.
fn give_up(agent: &Agent, lease: Lease, job: &JobServer, reason: &str) {
    warn!(
        number = lease.job,
        attempt = lease.attempt,
        "Giving up a job that the scheduler does not want from this worker any more: {reason}"
    );
    agent.held.forget(job, Stopped::LeaseOver);
}
