//! A step that changes the tree of the step before it: `run` and `copy`.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::BuildError;
use super::engine::{Engine, Work};
use super::fault::Fault;
use super::feed::Publisher;
use crate::store::{Draft, Layer, LayerMeta};
use crate::{Rootfs, StepId, StepLog};

/// A layer above another one.
pub(super) struct Layered<C> {
    pub(super) id: StepId,
    /// What it is above. Held, so that it stays.
    pub(super) base: Layer,
    pub(super) change: C,
}

/// What a step does to its tree.
pub(super) trait Change: Send + Sync + 'static {
    /// Changes the tree of `draft`, which starts as that of `base`, with its output in `log`.
    fn apply<'a>(
        &'a self,
        engine: &'a Engine,
        draft: &'a Draft,
        base: &'a Layer,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Fault>>;
}

/// The whole tree of `layer`, to be read while `layer` is held. Making it looks at the disk, so it is done where that may take its time.
pub(super) async fn view(layer: &Layer) -> Result<Rootfs, Fault> {
    let layer = layer.clone();
    match tokio::task::spawn_blocking(move || layer.view()).await {
        Ok(view) => Ok(view?),
        Err(error) => {
            let text = format!("looking at a layer was interrupted: {error}");
            Err(BuildError::Machine(text).into())
        }
    }
}

impl<C: Change> Work for Layered<C> {
    fn attempt<'a>(
        &'a self,
        engine: &'a Engine,
        publisher: &'a Publisher,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Layer, Fault>> {
        async move {
            let draft = engine.store.begin(self.id, Some(&self.base)).await?;
            let log = StepLog::create(draft.log_path())
                .await
                .map_err(|error| Fault::io("create the log of a step", &error))?;
            publisher.live(&log);
            let done = self
                .change
                .apply(engine, &draft, &self.base, &log, cancel)
                .await;
            log.close();
            if let Err(fault) = done {
                if fault.full_disk {
                    // The next attempt needs the room of this one.
                    draft.discard().await;
                }
                return Err(fault);
            }
            Ok(draft.commit(LayerMeta::default()).await?)
        }
        .boxed()
    }
}
