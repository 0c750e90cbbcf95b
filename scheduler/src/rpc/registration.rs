//! `Registration`: how workers join one pool.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::registration;
use ocluster_api::extensions_capnp::{leased_queue, registration_endpoint, worker_facts};
use ocluster_scheduling::{Event, JobId, PoolName, Refusal, WorkerName};
use ocluster_vat::{Connection, error as rpc_error, guarded_client};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::queue::{LeaveOnRelease, QueueServer};
use crate::durable::{self, Declared};
use crate::job::MAX_TEXT;
use crate::state::Scheduler;
use crate::worker_session::{Newcomer, WorkerFacts, WorkerSession};

/// How long a connected worker may take to show that it is alive when another one comes under its name.
const RIVAL_PING: Duration = Duration::from_secs(5);

/// The shortest secret by which a worker is known again, in bytes.
const MIN_IDENTITY: usize = 16;
/// The most jobs that a worker may bring back.
const MAX_HELD: u32 = 100_000;
/// The longest thing that a worker says of itself, in bytes.
const MAX_FACT: usize = 256;
/// The most kinds of jobs that it says it can run.
const MAX_KINDS: usize = 64;

/// How to notice that a worker is dead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    /// A worker that was silent for this long is asked for a sign of life.
    pub(crate) interval: Duration,
    /// A worker that was silent for this long is taken for dead.
    pub(crate) deadline: Duration,
}

/// The way into a pool, for one connection.
pub(crate) struct RegistrationServer {
    scheduler: Rc<Scheduler>,
    pool: PoolName,
    connection: Connection,
    liveness: Liveness,
}

impl RegistrationServer {
    pub(crate) fn new(
        scheduler: Rc<Scheduler>,
        pool: PoolName,
        connection: Connection,
        liveness: Liveness,
    ) -> Self {
        Self {
            scheduler,
            pool,
            connection,
            liveness,
        }
    }

    /// Waits until no living worker bears the name: one that does not answer a ping is put out.
    async fn make_way(&self, name: &WorkerName, identity: Option<[u8; 32]>) -> capnp::Result<()> {
        while let Some(rival) = self.scheduler.worker(&self.pool, name) {
            if identity.is_some() && rival.identity == identity {
                // The very same worker: what it had before is dead, whether or not anybody has noticed.
                info!(pool = %self.pool, "Worker \"{name}\" is back, in the place of a connection that it has lost");
                self.put_out(&rival, "this worker has come back over another connection");
                continue;
            }
            let ping = rival.object();
            let ping = ocluster_vat::ping(&ping);
            let answered = tokio::time::timeout(RIVAL_PING, ping).await;
            // An answer may be queued behind much else; any byte is a sign of life.
            let alive = match answered {
                Ok(answer) => answer.is_ok(),
                Err(_) => rival.connection.last_received() < RIVAL_PING,
            };
            if alive {
                warn!(pool = %self.pool, "Worker \"{name}\" already registered!");
                return Err(rpc_error::failed("Worker already registered!"));
            }
            warn!(pool = %self.pool, "Worker \"{name}\" does not answer, and another one takes its place");
            self.put_out(
                &rival,
                "another worker of the same name took the place of this one",
            );
        }
        Ok(())
    }

    fn put_out(&self, rival: &WorkerSession, reason: &str) {
        self.scheduler.worker_left(rival);
        rival.connection.disconnect(reason);
    }

    /// Registers a worker, once nobody else bears its name.
    async fn enter(&self, newcomer: Newcomer) -> capnp::Result<Rc<WorkerSession>> {
        self.make_way(&newcomer.name, newcomer.identity).await?;
        self.scheduler
            .register(&self.pool, newcomer, self.connection.clone())
            .map_err(|refusal| match refusal {
                Refusal::NameTaken(_) => rpc_error::failed("Worker already registered!"),
                other => rpc_error::failed(other.to_string()),
            })
    }

    fn seat(&self, session: Rc<WorkerSession>) -> leased_queue::Client {
        info!(pool = %self.pool, peer = %self.connection.peer(), "Registered new worker \"{}\"", session.name);
        // Registration starts paused, so that nothing is given out before the queue exists.
        let resumed = self
            .scheduler
            .handle(Event::WorkerResumed { worker: session.id });
        if let Err(refusal) = resumed {
            warn!(%refusal, "Cannot activate a worker that has just joined");
        }
        self.scheduler.announce_join();
        tokio::task::spawn_local(watch(session.clone(), self.liveness));
        let queue = QueueServer::new(self.scheduler.clone(), session.clone());
        guarded_client(
            Rc::new(queue),
            LeaveOnRelease::new(self.scheduler.clone(), session),
        )
    }
}

/// Closes the connection of a worker that shows no sign of life. Ends when the worker leaves.
async fn watch(session: Rc<WorkerSession>, liveness: Liveness) {
    let object = session.object();
    let watch = ocluster_vat::watch(
        &session.connection,
        &object,
        liveness.interval,
        liveness.deadline,
    );
    tokio::select! {
        reason = watch => info!(pool = %session.pool, "Connection to worker \"{}\" ended: {reason}", session.name),
        () = session.left.cancelled() => {}
    }
}

impl registration::Server for RegistrationServer {
    async fn register(
        self: Rc<Self>,
        params: registration::RegisterParams,
        mut results: registration::RegisterResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        if !params.has_worker() {
            return Err(rpc_error::failed("Missing worker argument!"));
        }
        let name = name_of(params.get_name()?)?;
        let newcomer = Newcomer {
            capacity: u32::try_from(params.get_capacity()).unwrap_or(0),
            cap: params.get_worker()?,
            identity: None,
            facts: None,
            name,
        };
        let session = self.enter(newcomer).await?;
        results.get().set_queue(self.seat(session).cast_to());
        Ok(())
    }
}

impl registration_endpoint::Server for RegistrationServer {
    async fn features(
        self: Rc<Self>,
        _: registration_endpoint::FeaturesParams,
        mut results: registration_endpoint::FeaturesResults,
    ) -> capnp::Result<()> {
        results.get().init_features(1).set(0, "leases");
        Ok(())
    }

    async fn join(
        self: Rc<Self>,
        params: registration_endpoint::JoinParams,
        mut results: registration_endpoint::JoinResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        if !params.has_worker() {
            return Err(rpc_error::failed("Missing worker argument!"));
        }
        let identity = params.get_identity()?;
        if identity.len() < MIN_IDENTITY {
            return Err(rpc_error::failed(format!(
                "The worker's identity has {} bytes, and at least {MIN_IDENTITY} are needed",
                identity.len()
            )));
        }
        let held = params.get_held()?;
        if held.len() > MAX_HELD {
            return Err(rpc_error::failed(format!(
                "The worker says that it has {} jobs, and {MAX_HELD} are allowed",
                held.len()
            )));
        }
        let mut declared = Vec::new();
        for one in held {
            declared.push(Declared {
                id: JobId(one.get_id()),
                attempt: one.get_attempt(),
                log_length: one.get_log_length(),
                job: one.get_job()?,
            });
        }
        let newcomer = Newcomer {
            name: name_of(params.get_name()?)?,
            capacity: u32::try_from(params.get_capacity()).unwrap_or(0),
            cap: params.get_worker()?,
            identity: Some(Sha256::digest(identity).into()),
            facts: Some(facts_of(params.get_facts()?)?),
        };
        let session = self.enter(newcomer).await?;
        // Before it is given anything, so that what it runs already counts.
        let verdicts = durable::readopt(&self.scheduler, &session, declared);
        let mut results = results.get();
        let mut list = results
            .reborrow()
            .init_verdicts(u32::try_from(verdicts.len()).unwrap_or(u32::MAX));
        for (index, verdict) in (0..).zip(&verdicts) {
            let mut to = list.reborrow().get(index);
            match verdict {
                Ok(()) => to.set_adopted(true),
                Err(reason) => to.set_reason(reason),
            }
        }
        results.set_queue(self.seat(session));
        Ok(())
    }
}

fn name_of(name: capnp::text::Reader<'_>) -> capnp::Result<WorkerName> {
    let name = name.to_str()?;
    if name.len() > MAX_TEXT {
        return Err(rpc_error::failed(format!(
            "The worker's name has {} bytes, and {MAX_TEXT} are allowed",
            name.len()
        )));
    }
    Ok(WorkerName::from(name))
}

/// What a worker says of itself, cut to what is fit to be kept.
fn facts_of(facts: worker_facts::Reader<'_>) -> capnp::Result<WorkerFacts> {
    let short = |text: &str| text[..text.floor_char_boundary(MAX_FACT)].to_owned();
    let kinds = facts.get_kinds()?;
    let kinds = kinds
        .iter()
        .take(MAX_KINDS)
        .map(|kind| Ok(short(kind?.to_str()?)));
    Ok(WorkerFacts {
        version: short(facts.get_version()?.to_str()?),
        os: short(facts.get_os()?.to_str()?),
        arch: short(facts.get_arch()?.to_str()?),
        kernel: short(facts.get_kernel()?.to_str()?),
        cpus: facts.get_cpus(),
        memory: facts.get_memory(),
        disk: facts.get_disk(),
        disk_free: facts.get_disk_free(),
        kinds: kinds.collect::<capnp::Result<_>>()?,
    })
}
