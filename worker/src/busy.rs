//! How many jobs run in this worker. A slot may also be held by the request for the next job, so slots do not tell.

use tokio::sync::watch;

/// The count of running jobs.
#[derive(Clone, Debug)]
pub(crate) struct Busy(watch::Sender<u32>);

/// A running job; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningJob(watch::Sender<u32>);

impl Busy {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// A job begins.
    pub(crate) fn begin(&self) -> RunningJob {
        self.0.send_modify(|count| *count += 1);
        RunningJob(self.0.clone())
    }

    /// The count, now and whenever it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u32> {
        self.0.subscribe()
    }

    /// Waits until no job runs. Whoever stops waiting has changed nothing.
    pub(crate) async fn idle(&self) {
        // The sender is ours, so that the wait cannot fail.
        let _ = self.watch().wait_for(|count| *count == 0).await;
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_is_when_the_last_job_has_ended() {
        let busy = Busy::new();
        busy.idle().await;
        let (first, second) = (busy.begin(), busy.begin());
        assert_eq!(*busy.watch().borrow(), 2);
        let mut idle = std::pin::pin!(busy.idle());
        assert!(futures::poll!(&mut idle).is_pending());
        drop(first);
        assert!(futures::poll!(&mut idle).is_pending());
        drop(second);
        idle.await;
    }
}
