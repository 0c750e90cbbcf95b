//! What our own schedulers know of a pool's workers beyond the frozen protocol: who paused them and why, what they are, and how to
//! move their jobs.

use capnp::capability::FromClientHook as _;
use ocluster_api::extensions_capnp::{pool_admin_endpoint, worker_description, worker_facts};
use ocluster_vat::RpcError;

use super::{CallError, Pool, call, text, texts};

/// Whether a scheduler keeps who paused a worker and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It does.
    Yes,
    /// It only knows that the worker is paused.
    No,
}

/// What was taken from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// How many jobs were queued again.
    pub moved: u32,
    /// How many jobs were cancelled.
    pub cancelled: u32,
}

/// All that a scheduler tells of a worker. Texts are empty, and numbers 0, where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Whether it is there now.
    pub connected: bool,
    /// Whether it gets jobs, or would if it were there.
    pub active: bool,
    /// Why it gets no jobs, while connected: "worker pause", "admin pause", "shutting down".
    pub inactive_reasons: Vec<String>,
    /// What it says of its own pause.
    pub note: String,
    /// Who paused it.
    pub paused_by: String,
    /// Why.
    pub pause_reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub paused_at: u64,
    /// How many jobs it says it runs at once.
    pub capacity: u32,
    /// How many it runs.
    pub running: u32,
    /// How many wait for it alone.
    pub queued: u32,
    /// What machine it is.
    pub facts: Facts,
    /// Milliseconds since its last sign of life, while connected.
    pub last_heard_ago: u64,
    /// The ids of the jobs it runs.
    pub jobs: Vec<String>,
}

/// What a worker says of its machine and itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The worker's version.
    pub version: String,
    /// The operating system.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The kernel's version.
    pub kernel: String,
    /// How many processors there are.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of the filesystem of its state directory.
    pub disk: u64,
    /// How many of those were free when it connected.
    pub disk_free: u64,
    /// The kinds of jobs it can run.
    pub kinds: Vec<String>,
}

impl Pool {
    /// Pauses (`active` is false) or unpauses a worker, and tells who does it and why.
    ///
    /// # Errors
    /// As [`Pool::set_active`].
    pub async fn pause(
        &self,
        worker: &str,
        active: bool,
        auto_create: bool,
        by: &str,
        reason: &str,
    ) -> Result<Kept, CallError> {
        let mut request = self.endpoint().pause_request();
        let mut params = request.get();
        params.set_worker(worker);
        params.set_active(active);
        params.set_auto_create(auto_create);
        params.set_by(by);
        params.set_reason(reason);
        // Under the name of the call it extends: that is what scripts know.
        let paused = call("PoolAdmin.setActive", async {
            request.send().promise.await.map(drop)
        });
        match paused.await {
            Ok(()) => Ok(Kept::Yes),
            Err(CallError {
                error: RpcError::Unimplemented(_),
                ..
            }) => {
                self.set_active(worker, active, auto_create).await?;
                Ok(Kept::No)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes all jobs from a worker: durable ones are queued again at their old places, the others are cancelled.
    ///
    /// # Errors
    /// When there is no such pool or worker, or the scheduler cannot do it.
    pub async fn evict(&self, worker: &str, reason: &str) -> Result<Evicted, CallError> {
        let mut request = self.endpoint().evict_request();
        request.get().set_worker(worker);
        request.get().set_reason(reason);
        call("PoolAdmin.evict", async {
            let response = request.send().promise.await?;
            let evicted = response.get()?;
            Ok(Evicted {
                moved: evicted.get_moved(),
                cancelled: evicted.get_cancelled(),
            })
        })
        .await
    }

    /// All that the scheduler knows of the pool's workers, or `None` if it knows no more than [`Pool::workers`] tells.
    ///
    /// # Errors
    /// When there is no such pool.
    pub async fn describe(&self) -> Result<Option<Vec<Description>>, CallError> {
        let described = call("PoolAdmin.describe", async {
            let response = self.endpoint().describe_request().send().promise.await?;
            let workers = response.get()?.get_workers()?;
            workers.iter().map(description).collect()
        });
        match described.await {
            Ok(workers) => Ok(Some(workers)),
            Err(CallError {
                error: RpcError::Unimplemented(_),
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn endpoint(&self) -> pool_admin_endpoint::Client {
        self.0.client.clone().cast_to()
    }
}

fn description(worker: worker_description::Reader<'_>) -> Result<Description, capnp::Error> {
    Ok(Description {
        name: text(worker.get_name()?)?,
        connected: worker.get_connected(),
        active: worker.get_active(),
        inactive_reasons: texts(worker.get_inactive_reasons()?)?,
        note: text(worker.get_note()?)?,
        paused_by: text(worker.get_paused_by()?)?,
        pause_reason: text(worker.get_pause_reason()?)?,
        paused_at: worker.get_paused_at(),
        capacity: worker.get_capacity(),
        running: worker.get_running(),
        queued: worker.get_queued(),
        facts: facts(worker.get_facts()?)?,
        last_heard_ago: worker.get_last_heard_ago(),
        jobs: texts(worker.get_jobs()?)?,
    })
}

fn facts(facts: worker_facts::Reader<'_>) -> Result<Facts, capnp::Error> {
    Ok(Facts {
        version: text(facts.get_version()?)?,
        os: text(facts.get_os()?)?,
        arch: text(facts.get_arch()?)?,
        kernel: text(facts.get_kernel()?)?,
        cpus: facts.get_cpus(),
        memory: facts.get_memory(),
        disk: facts.get_disk(),
        disk_free: facts.get_disk_free(),
        kinds: texts(facts.get_kinds()?)?,
    })
}
