//! The jobs of simulated clusters: what they say about themselves, and the executor that does it and takes note.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ocluster_client::{Action, CustomJob, JobSpec};
use ocluster_worker::{Executor, Failure, JobContext, Outcome};
use serde::{Deserialize, Serialize};

use crate::history::{ExecEnd, History};

/// The kind of the jobs.
pub const KIND: &str = "simulated";

/// How a job is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It passes.
    Pass,
    /// Its build fails.
    Fail,
    /// The machine fails it, wherever it runs.
    FailSetup,
    /// It runs until it is cancelled.
    Hang,
}

/// What a job does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    /// The job's name in the history, and its key for the scheduler.
    pub key: String,
    /// How many lines it prints.
    pub lines: u32,
    /// How much each line is padded, in bytes.
    pub padding: usize,
    /// How long it takes between lines, in milliseconds.
    pub every_ms: u64,
    /// How it ends.
    pub ending: Ending,
}

impl Work {
    /// The job's description.
    ///
    /// # Errors
    /// None that this kind of work causes.
    pub fn spec(&self) -> anyhow::Result<JobSpec> {
        let text = serde_json::to_string(self)?;
        Ok(JobSpec {
            action: Action::Custom(CustomJob::with_text(KIND, &text)?),
            cache_hint: self.key.clone(),
            source: None,
            secrets: vec![],
        })
    }

    /// A line of execution `number`, without the line feed.
    #[must_use]
    pub fn line(&self, number: usize, line: u32) -> String {
        let padding = "#".repeat(self.padding);
        format!("{} execution {number} line {line} {padding}", self.key)
    }
}

/// Does the work on one worker.
#[derive(Clone)]
pub struct SimExecutor {
    /// The worker's name.
    pub worker: String,
    /// Where it is noted.
    pub history: History,
}

impl Executor for SimExecutor {
    fn execute<'a>(
        &'a self,
        job: JobContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let work = match job.payload_text().map(|text| serde_json::from_str(&text)) {
                Ok(Ok(work)) => work,
                Ok(Err(error)) => return Failure::request(error.to_string()).into(),
                Err(failure) => return failure.into(),
            };
            job.cancel
                .run_until_cancelled(self.run(&work, job))
                .await
                .unwrap_or(Outcome::Cancelled)
        })
    }

    fn wants_directories(&self, _: &JobSpec) -> bool {
        false
    }
}

impl SimExecutor {
    async fn run(&self, work: &Work, job: JobContext<'_>) -> Outcome {
        let number = self.history.execution_started(&work.key, &self.worker);
        // However this ends: cancelled and crashed executions are just dropped.
        let stopped = Stopped(&self.history, number);
        for line in 0..work.lines {
            self.history.execution_prints(number);
            job.log.line(work.line(number, line)).await;
            tokio::time::sleep(Duration::from_millis(work.every_ms)).await;
        }
        let (outcome, end) = match work.ending {
            Ending::Hang => std::future::pending().await,
            Ending::Pass => {
                let output = format!("output of execution {number}");
                (Outcome::Succeeded { output }, ExecEnd::Passed)
            }
            Ending::Fail => (Failure::build("it does not build").into(), ExecEnd::Failed),
            Ending::FailSetup => (
                Failure::setup("the machine is no good").into(),
                ExecEnd::Infrastructure,
            ),
        };
        self.history.execution_ended(number, end);
        drop(stopped);
        outcome
    }
}

/// Notes the end of an execution that is dropped.
struct Stopped<'a>(&'a History, usize);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.execution_ended(self.1, ExecEnd::Stopped);
    }
}
