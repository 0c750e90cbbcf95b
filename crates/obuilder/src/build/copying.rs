//! `copy`: files from the build context, or from a stage's result, into a layer.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use futures::FutureExt;
use futures::future::BoxFuture;
use ocluster_obuilder_spec::{Copy, CopyKey, User};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::fault::Fault;
use super::layered::{Change, view};
use super::place::Place;
use crate::copy::{self, CopyError, CopyPlan};
use crate::store::{Draft, Layer};
use crate::{Rootfs, StepId, StepLog, sandbox};

/// Where files come from.
pub(super) enum Source {
    /// A directory of the machine.
    Directory(PathBuf),
    /// The result of a stage.
    Stage(Layer),
}

/// A `copy`, with what it takes found and hashed.
pub(super) struct Transfer {
    /// The top of the tree it takes files from. Kept open, so that what was mounted to see it stays.
    source: Arc<OwnedFd>,
    /// Keeps what `source` is in.
    _stage: Option<Layer>,
    plan: Arc<CopyPlan>,
    user: User,
    /// The step's id.
    id: StepId,
}

impl Transfer {
    /// Finds out what `copy` takes from `source`, at `place`, and the step's id above `base`.
    pub(super) async fn scan(
        source: Source,
        copy: &Copy,
        place: &Place,
        base: StepId,
        cancel: &CancellationToken,
    ) -> Result<Self, Fault> {
        let (tree, stage) = match source {
            Source::Directory(path) => (Rootfs::Plain(path), None),
            Source::Stage(layer) => (view(&layer).await?, Some(layer)),
        };
        // The thread must not outlive its use for long if we are dropped.
        let gone = cancel.child_token();
        let _gone = gone.clone().drop_guard();
        let copy = copy.clone();
        let workdir: BString = place.workdir.clone();
        let user = place.user.clone();
        tree.with(move |path| {
            let source = copy::open_root(path)?;
            let plan = copy::scan(source.as_fd(), &copy, workdir.as_bstr(), &gone)?;
            // Here, since hashing the paths of very many files takes its time, too.
            let id = CopyKey {
                base,
                user: &user,
                items: &plan.items,
                dst: &plan.dst,
                into_directory: plan.into_directory,
            }
            .id();
            Ok(Self {
                source: Arc::new(source),
                _stage: stage,
                plan: Arc::new(plan),
                user,
                id,
            })
        })
        .await?
        .map_err(|error: CopyError| error.into())
    }

    /// The step's id.
    pub(super) const fn id(&self) -> StepId {
        self.id
    }
}

impl Change for Transfer {
    fn apply<'a>(
        &'a self,
        _engine: &'a Engine,
        draft: &'a Draft,
        base: &'a Layer,
        _log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        async move {
            let owner = sandbox::resolve(&self.user, &view(base).await?).await?;
            let plan = Arc::clone(&self.plan);
            let source = Arc::clone(&self.source);
            let cancel = cancel.clone();
            draft
                .rootfs()
                .with(move |path| {
                    let target = copy::open_root(path)?;
                    copy::write(source.as_fd(), target.as_fd(), &plan, owner, &cancel)
                })
                .await??;
            Ok(())
        }
        .boxed()
    }
}
