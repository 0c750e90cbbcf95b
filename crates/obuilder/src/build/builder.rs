//! The builder as its users see it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use ocluster_obuilder_spec::Spec;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::engine::{Counts, Engine};
use super::place::Place;
use super::plan::Plan;
use super::share::Steps;
use super::stage::{Evaluation, Evaluator, Pins};
use super::telling::{Listener, tell};
use super::turns::Turns;
use super::{BuildContext, BuildError, BuilderOptions};
use crate::StepId;
use crate::image::Fetcher;
use crate::sandbox::Sandbox;
use crate::store::{Layer, PruneRequest, Pruned, Store, StoreError};

/// Builds specs in a store. Clones are the same builder; builds of one builder share steps under way, so a store should have one.
#[derive(Clone)]
pub struct Builder {
    pub(super) engine: Arc<Engine>,
}

/// A build's result.
#[derive(Clone, Debug)]
pub struct BuildResult {
    /// Its last step's id, which is what the build is known by.
    pub id: StepId,
    /// Its last step's layer: it stays in the store as long as this does.
    pub layer: Layer,
    /// Whether its last step was in the store before.
    pub cached: bool,
}

/// How often builds found what they needed, since the builder was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildStats {
    /// Steps that were in the store.
    pub cache_hits: u64,
    /// Steps that were not.
    pub cache_misses: u64,
}

impl Builder {
    /// A builder that keeps results in `store`, runs commands in `sandbox`, and gets base images with `fetcher`.
    #[must_use]
    pub fn new(
        store: Store,
        sandbox: Arc<dyn Sandbox>,
        fetcher: Arc<dyn Fetcher>,
        options: BuilderOptions,
    ) -> Self {
        Self {
            engine: Arc::new(Engine {
                store,
                sandbox,
                fetcher,
                options,
                steps: Steps::default(),
                counts: Counts::default(),
                checked: Mutex::default(),
            }),
        }
    }

    /// Builds `spec`. What is in the store is used; what another build is making is waited for, and its log told from the start.
    /// Independent stages work at the same time, but are told of one after the other.
    ///
    /// The build ends soon after it was cancelled (or dropped); steps that nobody else needs are then stopped in the background.
    ///
    /// # Errors
    /// The first failure in the order in which the spec is told; cancelled.
    pub async fn build(
        &self,
        spec: &Spec,
        context: BuildContext<'_>,
    ) -> Result<BuildResult, BuildError> {
        let plan = Plan::new(spec);
        let pins = Pins::default();
        let (senders, results): (Vec<_>, Vec<_>) =
            plan.stages.iter().map(|_| watch::channel(None)).unzip();
        let last = results.last().cloned();
        let evaluation = Evaluation {
            engine: Arc::clone(&self.engine),
            plan: &plan,
            source: &context.source,
            secrets: &context.secrets,
            start: Place::start(&context.env, self.engine.sandbox.default_shell()),
            halt: context.cancel.child_token(),
            turns: Turns::new(self.engine.options.parallel_stages),
            results,
            pins: &pins,
        };
        let mut listeners = Vec::with_capacity(senders.len());
        let mut stages = FuturesUnordered::new();
        for (number, result) in senders.into_iter().enumerate() {
            let (events, receiver) = mpsc::unbounded_channel();
            let gave_up = CancellationToken::new();
            listeners.push(Listener {
                events: receiver,
                gave_up: gave_up.clone(),
            });
            let evaluator = Evaluator {
                build: &evaluation,
                number,
                events,
                gave_up,
                result,
            };
            stages.push(evaluator.evaluate());
        }
        let work = async { while stages.next().await.is_some() {} };
        let telling = tell(&plan, listeners, context.log);
        let told = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(BuildError::Cancelled),
            (told, ()) = async { futures::join!(telling, work) } => told,
        };
        told?;
        let made = last.and_then(|result| result.borrow().clone());
        match made {
            Some(made) => Ok(BuildResult {
                id: made.layer.id(),
                layer: made.layer,
                cached: made.cached,
            }),
            None => Err(BuildError::Cancelled),
        }
    }

    /// How often builds found what they needed.
    #[must_use]
    pub fn stats(&self) -> BuildStats {
        let counts = &self.engine.counts;
        BuildStats {
            cache_hits: counts.hits.load(Ordering::Relaxed),
            cache_misses: counts.misses.load(Ordering::Relaxed),
        }
    }

    /// Removes at most `limit` results that were last used before `before`, the least recently used first. What a build under way
    /// touched stays.
    ///
    /// # Errors
    /// The disk's.
    pub async fn prune(
        &self,
        before: Timestamp,
        limit: usize,
        cancel: &CancellationToken,
    ) -> Result<Pruned, StoreError> {
        let request = PruneRequest { before, limit };
        self.engine.store.prune(request, cancel).await
    }

    /// Waits until steps that were cancelled are over, and closes the store, as [`Store::close`] does. A program that ends after its
    /// builds calls this, so that nothing is left to be cleaned up. No build may be under way.
    ///
    /// # Errors
    /// The disk's.
    pub async fn close(self) -> Result<(), StoreError> {
        self.engine.steps.settled().await;
        match Arc::try_unwrap(self.engine) {
            Ok(engine) => {
                let Engine {
                    store,
                    sandbox,
                    fetcher,
                    checked,
                    ..
                } = engine;
                drop((sandbox, fetcher, checked));
                store.close().await
            }
            // Whoever has the others closes it; what was thrown away is gone all the same.
            Err(shared) => shared.store.clone().close().await,
        }
    }

    /// The store it builds in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.engine.store
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("store", &self.engine.store)
            .field("options", &self.engine.options)
            .finish_non_exhaustive()
    }
}
