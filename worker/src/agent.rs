//! Keeps the worker in its pool: connects, works, and connects again, until told to stop.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ocluster_cli::Backoff;
use ocluster_git_context::ChildCommand;
use ocluster_joblog::{LogConfig, LogStore};
use ocluster_vat::{Stats, SturdyRef, Vat};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::disk_care::{DiskCare, DiskLimit, Host, PruneScope};
use crate::executor::{Executors, OBuilderConfig, OBuilderExecutor};
use crate::git_child::GIT_CHILD;
use crate::health::{self, HEALTH_CHECK_PERIOD, Watched};
use crate::identity::Identity;
use crate::job::Held;
use crate::metrics::{Collector, Metrics, Sources};
use crate::mirrors;
use crate::runner::Runner;
use crate::self_update::{SelfUpdate, Update};
use crate::session::{self, Lost};
use crate::slots::Slots;
use crate::state_dir::StateDir;
use crate::status::Status;
use crate::surroundings::{self, JobThreads, Surroundings};
use crate::trouble::Trouble;
use crate::weights::Weights;

/// The longest wait between two attempts to connect while there are jobs that a scheduler waits for.
const RECONNECT_SOON: Duration = Duration::from_secs(3);
/// How long running jobs may take to stop when the worker stops.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a worker waits after a prune that did not make enough room. Somebody has to look at it then; the next try only finds out
/// that they did.
pub const PRUNE_RETRY: Duration = Duration::from_secs(600);

/// How long leased jobs go on without a scheduler, unless the operator says otherwise.
pub const RECONNECT_GRACE: Duration = Duration::from_secs(15 * 60);

/// How to run a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pool's registration service.
    pub cap: SturdyRef,
    /// The worker's name, unique in the pool.
    pub name: String,
    /// How many jobs to run at once; at least 1.
    pub capacity: u32,
    /// Where the worker keeps its files.
    pub state_dir: PathBuf,
    /// How many slots a job takes.
    pub weights: Weights,
    /// What it can do.
    pub executors: Executors,
    /// How OBuilder builds are done, if they are. It becomes [`Executors::obuilder`] when the worker starts.
    pub obuilder: Option<OBuilderConfig>,
    /// When to prune the Docker engine of [`Executors::docker`], if ever.
    pub disk_limit: Option<DiskLimit>,
    /// What a prune may remove.
    pub prune_scope: PruneScope,
    /// How long to stay inactive after a prune that did not make enough room, before the next try: [`PRUNE_RETRY`].
    pub prune_retry: Duration,
    /// How often to look whether the engine of [`Executors::docker`] does its work, if at all: [`HEALTH_CHECK_PERIOD`].
    ///
    /// [`HEALTH_CHECK_PERIOD`]: crate::HEALTH_CHECK_PERIOD
    pub health_check: Option<Duration>,
    /// How long jobs that the scheduler keeps, too, go on after the connection to it was lost: [`RECONNECT_GRACE`]. If it is zero, they
    /// are cancelled at once, as all others are.
    pub reconnect_grace: Duration,
    /// The largest log of one job, in bytes; 0 for any size.
    pub max_log_bytes: u64,
    /// How long mirrors of repositories are kept that no job uses; for ever if `None`.
    pub git_keep: Option<Duration>,
    /// What is counted, shared with the executors that count.
    pub metrics: Metrics,
    /// Where metrics come from that are not counted here.
    pub metric_sources: Sources,
    /// How it updates itself.
    pub self_update: SelfUpdate,
    /// The program that runs the git child, if it is not this one.
    pub git_child: Option<ChildCommand>,
    /// What the worker stands on, if that is not the machine.
    pub surroundings: Option<Surroundings>,
}

impl Config {
    /// A worker of one slot which offers nothing yet, limits nothing and counts for itself. Everything can be changed.
    #[must_use]
    pub fn new(cap: SturdyRef, name: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            cap,
            name: name.into(),
            capacity: 1,
            state_dir: state_dir.into(),
            executors: Executors::default(),
            obuilder: None,
            disk_limit: None,
            prune_scope: PruneScope::default(),
            prune_retry: PRUNE_RETRY,
            health_check: Some(HEALTH_CHECK_PERIOD),
            weights: Weights::default(),
            reconnect_grace: RECONNECT_GRACE,
            max_log_bytes: 0,
            git_keep: None,
            metrics: Metrics::default(),
            metric_sources: Sources::default(),
            self_update: SelfUpdate::default(),
            git_child: None,
            surroundings: None,
        }
    }
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// It is to be started again, as a newer version. The program then exits with code 1, so that every supervisor does so.
    ForUpdate,
}

/// What outlives a connection.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) vat: Vat,
    pub(crate) slots: Slots,
    pub(crate) update: Update,
    pub(crate) status: Status,
    pub(crate) spool: LogStore,
    pub(crate) runner: Arc<Runner>,
    pub(crate) disk_care: Option<DiskCare<Host>>,
    pub(crate) pool: tokio::runtime::Handle,
    pub(crate) next_job: Cell<u64>,
    /// Jobs that outlive connections.
    pub(crate) held: Rc<Held>,
    /// By which the scheduler knows this worker again.
    pub(crate) identity: Identity,
    /// Whether a scheduler was found that knows no leases.
    pub(crate) leases_missed: Cell<bool>,
    /// Fires when all running jobs are to stop.
    pub(crate) stop_jobs: CancellationToken,
    /// Whether jobs fail because of this machine.
    pub(crate) trouble: Trouble,
    /// How the engine is.
    pub(crate) engine: Watched,
    pub(crate) collector: Collector,
}

/// Runs a worker on the current thread, which becomes its vat thread, until `shutdown`. Running jobs are then cancelled, and
/// everything they started is gone when this returns.
///
/// Must be polled inside a [`tokio::task::LocalSet`] on a current-thread runtime.
///
/// # Errors
/// Only if it cannot start, or the capability is not a pool's. Whatever else the scheduler or the network does, the worker tries again.
pub async fn run(mut config: Config, shutdown: CancellationToken) -> anyhow::Result<Ended> {
    // A self-update ends the worker as well, and nobody else.
    let shutdown = shutdown.child_token();
    let (state_dir, identity) = {
        let path = config.state_dir.clone();
        let open = move || {
            let state_dir = StateDir::open(&path)?;
            let identity = Identity::load_or_make(&state_dir.identity())?;
            anyhow::Ok((state_dir, identity))
        };
        tokio::task::spawn_blocking(open).await??
    };
    let log_config = LogConfig {
        max_log_bytes: config.max_log_bytes,
        ..LogConfig::default()
    };
    let spool = surroundings::open_spool(&config, &state_dir.spool(), log_config)?;
    let git_child = match &config.git_child {
        Some(child) => child.clone(),
        None => ChildCommand::new(
            std::env::current_exe().context("cannot find this program")?,
            [GIT_CHILD],
        ),
    };
    let pool = JobThreads::start(&config).context("cannot start threads")?;
    if let Some(obuilder) = config.obuilder.take() {
        let open = OBuilderExecutor::open(obuilder, config.metrics.clone());
        match pool.spawn(open).await? {
            Ok(opened) => config.executors.obuilder = Some(Arc::new(opened)),
            Err(error) => {
                // Waiting for its threads to end is not allowed here.
                pool.shutdown_background();
                return Err(error);
            }
        }
    }
    if let Some(docker) = config.executors.docker.clone() {
        pool.spawn(async move { docker.remove_leftover_names().await });
    }
    let _expiring = config
        .git_keep
        .map(|keep| mirrors::expire(pool.handle(), state_dir.git(), keep));
    let runner = Arc::new(Runner {
        worker: config.name.clone(),
        executors: config.executors.clone(),
        tmp: state_dir.tmp(),
        git_cache: state_dir.git(),
        git_child,
    });
    let trouble = Trouble::default();
    let net = Stats::new();
    let agent = Rc::new(Agent {
        engine: health::watch(&config, pool.handle(), &trouble),
        vat: surroundings::vat(&config, net.clone()),
        slots: Slots::new(config.capacity),
        update: Update::new(shutdown.clone()),
        status: Status::new(),
        spool,
        runner,
        disk_care: disk_care(&config, pool.handle()),
        pool: pool.handle().clone(),
        next_job: Cell::new(1),
        held: Held::new(),
        identity,
        leases_missed: Cell::new(false),
        stop_jobs: CancellationToken::new(),
        trouble,
        collector: Collector::new(
            config.metrics.clone(),
            net,
            config.metric_sources.clone(),
            pool.handle().clone(),
        ),
        config,
    });
    let _service = crate::status::announce(&agent, &shutdown);
    let held = agent.held.clone();
    let grace = agent.config.reconnect_grace;
    let _keeping = AbortOnDropHandle::new(tokio::task::spawn_local(async move {
        held.keep_no_longer_than(grace).await;
    }));
    let stayed = stay_connected(&agent, &shutdown).await;
    stop(&agent).await;
    pool.shutdown_background();
    stayed?;
    Ok(if agent.update.is_leaving() {
        Ended::ForUpdate
    } else {
        Ended::Stopped
    })
}

/// What takes care of the Docker engine's disk, if there is an engine and a limit.
fn disk_care(config: &Config, pool: &tokio::runtime::Handle) -> Option<DiskCare<Host>> {
    let docker = config.executors.docker.clone()?;
    let Some(limit) = config.disk_limit else {
        info!(
            "Docker is never pruned, as there is neither --prune-threshold nor --docker-max-df-size"
        );
        return None;
    };
    let host = Host::new(docker, pool.clone());
    Some(DiskCare::new(
        limit,
        config.prune_scope,
        config.prune_retry,
        host,
        config.metrics.clone(),
    ))
}

async fn stay_connected(agent: &Rc<Agent>, shutdown: &CancellationToken) -> Result<(), Lost> {
    let mut backoff = Backoff::new();
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        let reason = match session::stay(agent, shutdown).await {
            Err(Lost::Connection(reason)) => reason,
            ended => return ended,
        };
        agent.held.lost();
        let mut wait = backoff.after(started.elapsed());
        if !agent.held.all().is_empty() {
            // A scheduler that did not go away gives its jobs to others before long.
            wait = wait.min(RECONNECT_SOON);
        }
        agent.status.lost(&reason);
        warn!(
            "Lost connection to scheduler ({reason}). Will retry in {:.1}s…",
            wait.as_secs_f64()
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok(())
}

/// Stops the running jobs and waits for them.
async fn stop(agent: &Agent) {
    info!("Stopping");
    agent.stop_jobs.cancel();
    if tokio::time::timeout(STOP_TIMEOUT, agent.slots.all_free())
        .await
        .is_err()
    {
        warn!("Some jobs did not stop in time");
    }
    if let Some(obuilder) = &agent.config.executors.obuilder {
        obuilder.settle().await;
    }
}
