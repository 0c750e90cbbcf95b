//! The OBuilder executor: from a job's description to its outcome.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ocluster_api::Action;
use ocluster_obuilder::build::{BuildContext, BuildError, Secrets};
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::PruneRequest;
use ocluster_obuilder::{Engine, EngineConfig};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use zeroize::Zeroizing;

use super::log::InJobLog;
use super::space::{Gate, PruneRules, Storage, keep_room};
use crate::executor::{Cause, Execution, Executor, Failure, JobContext, Outcome};
use crate::health::Patient;
use crate::metrics::Metrics;

/// How long a worker that stops waits for its store.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// How the engine's errors begin where the store has no room.
const FULL: [&str; 2] = ["the disk of the store is full", "the disk is full"];

/// How OBuilder builds are done.
#[derive(Clone, Debug)]
pub struct OBuilderConfig {
    /// Store, sandbox and images.
    pub engine: EngineConfig,
    /// When to prune.
    pub prune: PruneRules,
    /// How often to see whether builds work, if at all.
    pub health_check: Option<Duration>,
    /// The image that is built on for that.
    pub health_image: String,
}

/// Runs OBuilder builds.
pub struct OBuilderExecutor {
    engine: Engine,
    gate: Gate,
    metrics: Metrics,
    health_check: Option<Duration>,
    health_image: String,
    pool: Handle,
    #[expect(dead_code, reason = "held for its drop")]
    keeping_room: DropGuard,
}

impl OBuilderExecutor {
    /// Opens the store, and looks after it as long as this lives. Must be called on the runtime that runs the builds.
    ///
    /// # Errors
    /// The store cannot be used, or what runs steps is missing: what, why, and what to do.
    pub async fn open(config: OBuilderConfig, metrics: Metrics) -> anyhow::Result<Self> {
        let engine = Engine::open(config.engine).await?;
        let stop = CancellationToken::new();
        let (gate, care) = keep_room(
            Room(engine.clone()),
            config.prune,
            metrics.clone(),
            stop.clone(),
        );
        tokio::spawn(care);
        Ok(Self {
            engine,
            gate,
            metrics,
            health_check: config.health_check,
            health_image: config.health_image,
            pool: Handle::current(),
            keeping_room: stop.drop_guard(),
        })
    }

    /// Waits until nothing of cancelled builds is left, and what was built is on the disk, so that not even the machine's end loses it.
    /// No build may be under way. Takes half a minute at most: the next start does the same.
    pub(crate) async fn settle(&self) {
        let closing = self.pool.spawn(self.engine.clone().close());
        match tokio::time::timeout(SETTLE_LIMIT, closing).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!("Cannot bring the OBuilder store to the disk: {error}"),
            Ok(Err(error)) => warn!("Cannot bring the OBuilder store to the disk: {error}"),
            Err(_) => warn!("The disk of the OBuilder store is slow: not waiting for it"),
        }
    }

    /// How often to see whether builds work, if at all.
    pub(crate) fn health_check(&self) -> Option<Duration> {
        self.health_check
    }

    async fn build(&self, job: JobContext<'_>) -> Result<String, Outcome> {
        let Action::OBuilder { spec } = &job.spec.action else {
            return Err(Failure::request("only OBuilder builds can be run by OBuilder").into());
        };
        let spec = Spec::parse(spec.as_bytes())
            .map_err(|error| Failure::request(format!("Invalid OBuilder spec: {error}")))?;
        let log = InJobLog(job.log);
        let passed = job.cancel.run_until_cancelled(self.gate.pass(&log)).await;
        passed.ok_or(Outcome::Cancelled)?;
        let secrets = job.spec.secrets.iter().map(|secret| {
            let value = Zeroizing::new(secret.value.expose().to_vec());
            (secret.id.clone(), value)
        });
        let context = BuildContext {
            source: job.context.to_owned(),
            secrets: Secrets(secrets.collect()),
            env: Vec::new(),
            log: &log,
            cancel: job.cancel,
        };
        let built = self.engine.builder().build(&spec, context).await;
        let stats = self.engine.builder().stats();
        self.metrics
            .store_used(stats.cache_hits, stats.cache_misses);
        let built = built.map_err(outcome)?;
        Ok(built.id.to_string())
    }
}

impl std::fmt::Debug for OBuilderExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OBuilderExecutor").finish_non_exhaustive()
    }
}

impl Executor for OBuilderExecutor {
    fn execute<'a>(&'a self, job: JobContext<'a>) -> Execution<'a> {
        Box::pin(async move {
            match self.build(job).await {
                Ok(output) => Outcome::Succeeded { output },
                Err(outcome) => outcome,
            }
        })
    }
}

impl Patient for Arc<OBuilderExecutor> {
    async fn examine(&self) -> Result<(), String> {
        let (engine, image) = (self.engine.clone(), self.health_image.clone());
        // It is asked on the vat thread, and builds elsewhere.
        let check = self
            .pool
            .spawn(async move { engine.healthcheck(&image, &CancellationToken::new()).await });
        match AbortOnDropHandle::new(check).await {
            Ok(checked) => checked.map_err(|error| error.to_string()),
            Err(error) => Err(format!("the health check of OBuilder crashed: {error}")),
        }
    }
}

fn outcome(error: BuildError) -> Outcome {
    let cause = match error {
        BuildError::Cancelled => return Outcome::Cancelled,
        BuildError::Failed(_) => Cause::Build,
        BuildError::Machine(ref reason) if FULL.iter().any(|full| reason.starts_with(full)) => {
            Cause::DiskFull
        }
        BuildError::Machine(_) => Cause::Setup,
        BuildError::Source(_) => Cause::Registry,
    };
    let message = error.to_string();
    Failure { cause, message }.into()
}

/// The store's disk.
struct Room(Engine);

impl Storage for Room {
    async fn free_percent(&self) -> Result<f64, String> {
        let space = self.0.store().space().await;
        let space = space.map_err(|error| error.to_string())?;
        Ok(space.free_percent().min(space.free_inodes_percent))
    }

    async fn prune(&self, limit: usize, cancel: &CancellationToken) -> Result<usize, String> {
        let before = Timestamp::now();
        let request = PruneRequest { before, limit };
        let pruned = self.0.store().prune(request, cancel).await;
        pruned
            .map(|pruned| pruned.layers)
            .map_err(|error| error.to_string())
    }
}
