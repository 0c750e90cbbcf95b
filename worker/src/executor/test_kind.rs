//! Runs custom jobs of the kind `test`: fault injection for tests and operators.
//!
//! Such a job does only what its steps say. It must never start a process or touch a file, so that offering the kind is safe.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use ocluster_api::{Action, TEST_KIND, TestStep, read_test_job};

use super::contract::{Executor, Failure, JobContext, JobLog, Outcome};

/// Runs jobs made by [`ocluster_api::test_job`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TestExecutor;

impl Executor for TestExecutor {
    fn execute<'a>(
        &'a self,
        job: JobContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            job.cancel
                .run_until_cancelled(run(job))
                .await
                .unwrap_or(Outcome::Cancelled)
        })
    }
}

async fn run(job: JobContext<'_>) -> Outcome {
    let Action::Custom(custom) = &job.spec.action else {
        return Failure::request(format!(
            "a job of the kind `{TEST_KIND}` must be a custom job"
        ))
        .into();
    };
    let steps = match read_test_job(custom) {
        Ok(steps) => steps,
        Err(error) => return Failure::request(error.to_string()).into(),
    };
    for step in steps {
        match step {
            TestStep::Print(text) => job.log.line(text).await,
            TestStep::SleepMs(time) => tokio::time::sleep(Duration::from_millis(time)).await,
            TestStep::Hang => std::future::pending().await,
            TestStep::FloodBytes(bytes) => flood(job.log, bytes).await,
            TestStep::FailSetup(reason) => return Failure::setup(reason).into(),
            TestStep::Exit(0) => break,
            TestStep::Exit(code) => {
                return Failure::build(format!("test job exited with code {code}")).into();
            }
        }
    }
    Outcome::Succeeded {
        output: String::new(),
    }
}

/// Writes lines of 64 bytes, so that a flood can be read by line, too.
async fn flood(log: &JobLog, mut bytes: u64) {
    let line = [&[b'#'; 63][..], b"\n"].concat();
    let chunk = Bytes::from(line.repeat(JobLog::CHUNK / line.len()));
    while bytes > 0 {
        let piece = usize::try_from(bytes).map_or(chunk.len(), |left| left.min(chunk.len()));
        log.write(chunk.slice(..piece)).await;
        // A log that nobody reads takes everything at once: let others have their turn, and a cancel be seen.
        tokio::task::yield_now().await;
        bytes -= piece as u64;
    }
}
