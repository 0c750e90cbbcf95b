//! `Registration`: how workers join one pool.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{queue, registration};
use ocluster_api::extensions_capnp::explained_queue;
use ocluster_scheduling::{Event, PoolName, Refusal, WorkerName};
use ocluster_vat::{Connection, error as rpc_error, guarded_client};
use tracing::{info, warn};

use super::queue::{LeaveOnRelease, QueueServer};
use crate::job::MAX_TEXT;
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// How long a connected worker may take to show that it is alive when another one comes under its name.
const RIVAL_PING: Duration = Duration::from_secs(5);

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
    async fn make_way(&self, name: &WorkerName) -> capnp::Result<()> {
        while let Some(rival) = self.scheduler.worker(&self.pool, name) {
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
            self.scheduler.worker_left(&rival);
            rival
                .connection
                .disconnect("another worker of the same name took the place of this one");
        }
        Ok(())
    }

    fn join(&self, session: Rc<WorkerSession>) -> queue::Client {
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
        let queue: explained_queue::Client = guarded_client(
            Rc::new(queue),
            LeaveOnRelease::new(self.scheduler.clone(), session),
        );
        queue.cast_to()
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
        let name = params.get_name()?.to_str()?;
        if name.len() > MAX_TEXT {
            return Err(rpc_error::failed(format!(
                "The worker's name has {} bytes, and {MAX_TEXT} are allowed",
                name.len()
            )));
        }
        let name = WorkerName::from(name);
        let capacity = u32::try_from(params.get_capacity()).unwrap_or(0);
        let cap = params.get_worker()?;
        self.make_way(&name).await?;
        let session = self
            .scheduler
            .register(&self.pool, &name, capacity, cap, self.connection.clone())
            .map_err(|refusal| match refusal {
                Refusal::NameTaken(_) => rpc_error::failed("Worker already registered!"),
                other => rpc_error::failed(other.to_string()),
            })?;
        results.get().set_queue(self.join(session));
        Ok(())
    }
}
