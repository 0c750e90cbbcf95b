//! A part of the measurement on a thread of its own, so that one part's work does not show in another part's waits.

use std::future::Future;

use anyhow::Context as _;
use tokio::sync::oneshot;

/// Runs `work` on a new thread, in a [`tokio::task::LocalSet`] of its own, and gives what it gives.
///
/// # Errors
/// Those of `work`, or that the system gives no thread.
pub(crate) fn spawn<T, W>(
    name: &str,
    work: W,
) -> anyhow::Result<impl Future<Output = anyhow::Result<T>> + use<T, W>>
where
    T: Send + 'static,
    W: AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
{
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let run = || -> anyhow::Result<T> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                tokio::task::LocalSet::new().block_on(&runtime, work())
            };
            // Whoever waited may have failed for a reason of its own.
            drop(done.send(run()));
        })
        .context("cannot start a thread")?;
    let gone = format!("the thread {name} crashed");
    Ok(async move { result.await.context(gone)? })
}
