//! What all builds of one builder share: the store, the sandbox, the steps under way, and the counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::feed::Publisher;
use super::share::{Made, Outcome, Steps};
use super::{BuildError, BuilderOptions, room};
use crate::StepId;
use crate::image::Fetcher;
use crate::sandbox::Sandbox;
use crate::store::{Layer, Store};

/// The parts that builds work with.
pub(super) struct Engine {
    pub(super) store: Store,
    pub(super) sandbox: Arc<dyn Sandbox>,
    pub(super) fetcher: Arc<dyn Fetcher>,
    pub(super) options: BuilderOptions,
    pub(super) steps: Steps,
    pub(super) counts: Counts,
    /// What the last health check's base image stands for. Held, so that it stays, and the next check needs nobody to fetch it from.
    pub(super) checked: Mutex<Option<Layer>>,
}

/// How often steps were in the store already, and how often they were not.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

/// How a step's layer is made.
pub(super) trait Work: Send + Sync + 'static {
    /// Makes the layer from nothing, telling with `publisher`. It may be called once more after it failed. It stops soon when `cancel`
    /// fires.
    fn attempt<'a>(
        &'a self,
        engine: &'a Engine,
        publisher: &'a Publisher,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Layer, Fault>>;
}

impl Engine {
    /// The step `id`: from the store, or made by `work`. When the disk was full, room is made and it is tried once more.
    pub(super) async fn make(
        &self,
        id: StepId,
        work: &dyn Work,
        publisher: &Publisher,
        cancel: &CancellationToken,
    ) -> Outcome {
        if let Some(layer) = self.store.layer(id).await {
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
            publisher.kept(&layer);
            return Ok(Made {
                layer,
                cached: true,
            });
        }
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        let started = Timestamp::now();
        let attempt = match work.attempt(self, publisher, cancel).await {
            Err(fault) if fault.full_disk && !cancel.is_cancelled() => {
                let removed = room::make(&self.store, started, cancel).await?;
                if removed == 0 && room::is_full(&self.store).await {
                    return Err(room::none(&fault.error, removed));
                }
                publisher.note(format!(
                    "the disk is full: removed {removed} old results, trying the step again"
                ));
                match work.attempt(self, publisher, cancel).await {
                    Err(fault) if fault.full_disk => Err(room::none(&fault.error, removed)),
                    other => other.map_err(|fault| fault.error),
                }
            }
            other => other.map_err(|fault| fault.error),
        };
        if cancel.is_cancelled() && attempt.is_err() {
            return Err(BuildError::Cancelled);
        }
        let layer = attempt?;
        publisher.settle(&layer);
        Ok(Made {
            layer,
            cached: false,
        })
    }
}
