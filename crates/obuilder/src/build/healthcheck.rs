//! Finds out whether this machine can build at all, by building something.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use ocluster_obuilder_spec::{Op, Run, Spec};
use tokio_util::sync::CancellationToken;

use super::{BuildContext, BuildError, BuildLog, BuildResult, Builder, Secrets};

/// The most of a check's log that is kept to be shown, in bytes.
const KEPT: usize = 64 * 1024;

impl Builder {
    /// Fetches `image`, however long that takes, and then runs `echo healthcheck` in it, which must not take longer than `limit`. The
    /// result is deleted, so each check really runs. The image is kept from being pruned until the next check or for as long as the
    /// builder lives, so that checks go on when nobody can be asked for it.
    ///
    /// # Errors
    /// Why the machine cannot build, with what the check printed.
    pub async fn healthcheck(
        &self,
        image: &BStr,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        let log = Kept::default();
        let checked = self.fetch_and_check(image, limit, &log, cancel).await;
        checked.map_err(|error| log.explain(error))
    }

    async fn fetch_and_check(
        &self,
        image: &BStr,
        limit: Duration,
        log: &Kept,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        let base = self.build_quietly(log, spec(image, &[]), cancel).await?;
        let former = self
            .engine
            .checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(base.layer);
        drop(former);
        let command = Run {
            shell: "echo healthcheck".into(),
            ..Run::default()
        };
        let ops = [
            Op::Shell(["/bin/sh", "-c"].map(BString::from).into()),
            Op::Run(command),
        ];
        let check = async {
            loop {
                let result = self.build_quietly(log, spec(image, &ops), cancel).await?;
                let BuildResult { id, cached, layer } = result;
                drop(layer);
                let deleted = self.engine.store.delete(id, |_| ()).await;
                if let Err(error) = &deleted {
                    tracing::debug!(%error, "the healthcheck's result stays");
                }
                // What was found shows nothing, unless it is in use: then somebody had it run just now.
                if !cached || deleted.is_err() {
                    return Ok(());
                }
            }
        };
        match tokio::time::timeout(limit, check).await {
            Ok(checked) => checked,
            Err(_) => Err(BuildError::Machine(
                "Timeout running healthcheck".to_owned(),
            )),
        }
    }

    async fn build_quietly(
        &self,
        log: &Kept,
        spec: Spec,
        cancel: &CancellationToken,
    ) -> Result<BuildResult, BuildError> {
        let context = BuildContext {
            // Nothing is copied.
            source: PathBuf::from("/"),
            secrets: Secrets::default(),
            env: Vec::new(),
            log,
            cancel,
        };
        self.build(&spec, context).await
    }
}

fn spec(image: &BStr, ops: &[Op]) -> Spec {
    Spec {
        stages: Vec::new(),
        from: image.to_owned(),
        ops: ops.to_vec(),
    }
}

/// The end of a log.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Kept {
    fn add(&self, parts: &[&[u8]]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts {
            kept.extend_from_slice(part);
        }
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    fn explain(&self, error: BuildError) -> BuildError {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let with = |text: String| {
            let log = kept.to_str_lossy();
            let log = log.trim();
            if log.is_empty() {
                text
            } else {
                format!("{text}\n{log}")
            }
        };
        match error {
            BuildError::Cancelled => BuildError::Cancelled,
            BuildError::Failed(text) => BuildError::Failed(with(text)),
            BuildError::Machine(text) => BuildError::Machine(with(text)),
            BuildError::Source(text) => BuildError::Source(with(text)),
        }
    }
}

impl BuildLog for Kept {
    fn heading<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[&text, b"\n"]);
        async {}.boxed()
    }

    fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[&text, b"\n"]);
        async {}.boxed()
    }

    fn output<'a>(&'a self, bytes: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[&bytes]);
        async {}.boxed()
    }
}
