//! When a job on a worker has taken too long, be it all in all or without a word.
//!
//! Told by the monotonic clock: the other one may jump.

use std::cell::Cell;
use std::time::Duration;

use ocluster_store::{Cause, TimeLimits};
use tokio::time::Instant;

/// How long a worker may take to stop a job. After that the job is over without its word.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(60);

/// The limits of one attempt.
pub(crate) struct RunLimits {
    running: Option<(Instant, Duration)>,
    silent: Option<Duration>,
}

impl RunLimits {
    /// Those of an attempt that has run for `age` already.
    pub(crate) fn new(limits: TimeLimits, age: Duration) -> Self {
        let running = limits.running.map(Duration::from_millis);
        Self {
            running: running.map(|limit| (Instant::now() + limit.saturating_sub(age), limit)),
            silent: limits.silent.map(Duration::from_millis),
        }
    }

    /// Waits until a limit has passed, and says which. Without `last_output`, which says when the job last printed something, it is not
    /// taken to be silent.
    pub(crate) async fn passed(&self, last_output: Option<&Cell<Instant>>) -> Cause {
        loop {
            let now = Instant::now();
            if let Some((by, limit)) = self.running
                && now >= by
            {
                return cause("running-time-limit", "it ran longer than", limit);
            }
            let silent = self.silent.zip(last_output);
            let silent = silent.map(|(limit, last)| (last.get() + limit, limit));
            if let Some((by, limit)) = silent
                && now >= by
            {
                return cause("silent-time-limit", "it printed nothing for", limit);
            }
            let next = [self.running.map(|(by, _)| by), silent.map(|(by, _)| by)];
            sleep_until(next.into_iter().flatten().min()).await;
        }
    }
}

/// Waits until then; for ever if that is never.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn cause(code: &str, what: &str, limit: Duration) -> Cause {
    Cause {
        code: code.to_owned(),
        sentence: format!("{what} {}", ocluster_cli::show_duration(limit)),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_that_prints_is_stopped_for_running_and_one_that_does_not_for_being_silent() {
        let limits = TimeLimits {
            running: Some(60_000),
            queued: None,
            silent: Some(10_000),
        };
        let limits = RunLimits::new(limits, Duration::from_secs(5));
        let last = Cell::new(Instant::now());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(limits.passed(Some(&last)).now_or_never().is_none());
        last.set(Instant::now());
        assert_eq!(limits.passed(Some(&last)).await.code, "silent-time-limit");
        let stopped = limits.passed(None).await;
        assert_eq!(stopped.code, "running-time-limit");
        assert_eq!(stopped.sentence, "it ran longer than 1m");
        assert!(last.get().elapsed() >= Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_is_ever_too_long() {
        let limits = RunLimits::new(TimeLimits::default(), Duration::MAX);
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert!(limits.passed(None).now_or_never().is_none());
    }
}
