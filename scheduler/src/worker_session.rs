//! One worker's stay in a pool, from its registration until it leaves, and a little longer: whoever waits for its last jobs to
//! end (a drain) holds on to the session.

use std::cell::Cell;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::worker;
use ocluster_scheduling::{PoolName, WorkerId, WorkerName};
use ocluster_vat::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a worker says of itself and the machine it runs on. Empty or 0 where it does not know.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerFacts {
    pub(crate) version: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) kernel: String,
    pub(crate) cpus: u32,
    /// Bytes.
    pub(crate) memory: u64,
    /// Bytes of the filesystem of its state directory.
    pub(crate) disk: u64,
    pub(crate) disk_free: u64,
    /// The kinds of jobs it can run.
    pub(crate) kinds: Vec<String>,
}

/// A worker that wants to join a pool.
pub(crate) struct Newcomer {
    pub(crate) name: WorkerName,
    /// How many jobs it says it runs at once; 0 if unknown.
    pub(crate) capacity: u32,
    /// Its own interface.
    pub(crate) cap: worker::Client,
    /// SHA-256 of the secret by which it is known again, if it has one.
    pub(crate) identity: Option<[u8; 32]>,
    /// What it says of itself, if it does.
    pub(crate) facts: Option<WorkerFacts>,
}

/// A registered worker.
pub(crate) struct WorkerSession {
    /// This registration's number.
    pub(crate) id: WorkerId,
    /// The pool it joined.
    pub(crate) pool: PoolName,
    /// The name it gave, unique among the pool's connected workers.
    pub(crate) name: WorkerName,
    /// The worker's own interface.
    pub(crate) cap: worker::Client,
    /// The connection it registered over.
    pub(crate) connection: Connection,
    /// What it said of itself, if it did.
    pub(crate) facts: Option<WorkerFacts>,
    /// SHA-256 of the secret by which it is known again, if it has one.
    pub(crate) identity: Option<[u8; 32]>,
    /// How many jobs it has taken and not finished.
    running: watch::Sender<u32>,
    /// Whether an update of the worker is on its way.
    pub(crate) updating: Cell<bool>,
    /// Fires when the registration ends.
    pub(crate) left: CancellationToken,
}

impl WorkerSession {
    /// A worker that has just joined.
    pub(crate) fn new(
        id: WorkerId,
        pool: PoolName,
        newcomer: Newcomer,
        connection: Connection,
    ) -> Self {
        Self {
            id,
            pool,
            name: newcomer.name,
            cap: newcomer.cap,
            connection,
            facts: newcomer.facts,
            identity: newcomer.identity,
            running: watch::Sender::new(0),
            updating: Cell::new(false),
            left: CancellationToken::new(),
        }
    }

    /// The worker's interface as an object without a type, for pings.
    pub(crate) fn object(&self) -> capnp::capability::Client {
        self.cap.clone().cast_to()
    }

    /// Takes note of the number of running jobs.
    pub(crate) fn set_running(&self, running: u32) {
        self.running.send_replace(running);
    }

    /// Whether no job runs.
    pub(crate) fn is_idle(&self) -> bool {
        *self.running.borrow() == 0
    }

    /// Waits until no job runs, and tells each number on the way, the 0 included. Goes on when the worker leaves: its last jobs end, too.
    pub(crate) async fn until_idle(&self, mut tell: impl AsyncFnMut(u32)) {
        let mut running = self.running.subscribe();
        loop {
            let count = *running.borrow_and_update();
            tell(count).await;
            // The sender is ours, so that a change always comes.
            if count == 0 || running.changed().await.is_err() {
                return;
            }
        }
    }
}
