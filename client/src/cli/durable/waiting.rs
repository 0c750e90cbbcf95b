//! What a terminal shows while a job has not said anything yet.

use std::convert::Infallible;
use std::time::Duration;

use ocluster_cli::PassingLine;

use crate::cli::kept_job::KeptJob;

/// How long a job may say nothing before that is explained.
const UNNOTICED: Duration = Duration::from_secs(1);
/// How often the explanation is asked for: it costs the scheduler a walk over the jobs ahead.
const INTERVAL: Duration = Duration::from_secs(5);

/// A line that says why there is no log yet, until there is one.
pub(super) struct Waiting {
    line: PassingLine,
    over: bool,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            line: PassingLine::new(),
            over: false,
        }
    }

    /// To be awaited beside the log; never ends.
    pub(super) async fn tell(&mut self, job: &KeptJob<'_>) -> Infallible {
        if self.over || !self.line.has_reader() {
            return std::future::pending().await;
        }
        tokio::time::sleep(UNNOTICED).await;
        loop {
            // A lost connection is told by whoever reads the log.
            if let Ok(explanation) = job.now().explain().await {
                self.line.show(&explanation.summary);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// There is a log, or nothing to wait for.
    pub(super) fn is_over(&mut self) {
        self.over = true;
        self.line.clear();
    }
}
