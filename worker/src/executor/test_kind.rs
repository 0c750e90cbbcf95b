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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ocluster_api::{CustomJob, JobSpec, test_job};
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn spec(job: CustomJob) -> JobSpec {
        JobSpec {
            action: Action::Custom(job),
            cache_hint: String::new(),
            source: None,
            secrets: vec![],
        }
    }

    async fn run_spec(spec: JobSpec, cancel: CancellationToken) -> (Outcome, String) {
        let (log, mut chunks) = JobLog::new(1);
        let run = tokio::spawn(async move {
            let nowhere = Path::new("/nonexistent");
            let job = JobContext {
                spec: &spec,
                context: nowhere,
                scratch: nowhere,
                log: &log,
                cancel: &cancel,
            };
            TestExecutor.execute(job).await
        });
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk);
        }
        (run.await.unwrap(), String::from_utf8(text).unwrap())
    }

    async fn run_steps(steps: &[TestStep]) -> (Outcome, String) {
        run_spec(spec(test_job(steps).unwrap()), CancellationToken::new()).await
    }

    fn succeeded() -> Outcome {
        Outcome::Succeeded {
            output: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn steps_are_done_in_order() {
        let start = tokio::time::Instant::now();
        let steps = [
            TestStep::Print("one".into()),
            TestStep::SleepMs(90_000),
            TestStep::Print("two".into()),
        ];
        assert_eq!(run_steps(&steps).await, (succeeded(), "one\ntwo\n".into()));
        assert_eq!(start.elapsed().as_secs(), 90);
    }

    #[tokio::test]
    async fn exit_codes_decide_the_outcome_and_end_the_job() {
        let after = |code| [TestStep::Exit(code), TestStep::Print("never".into())];
        assert_eq!(run_steps(&after(0)).await, (succeeded(), String::new()));
        assert_eq!(
            run_steps(&after(3)).await,
            (
                Failure::build("test job exited with code 3").into(),
                String::new()
            )
        );
    }

    #[tokio::test]
    async fn a_failed_setup_is_told_apart_from_a_failed_build() {
        let steps = [TestStep::FailSetup("the disk is full".into())];
        assert_eq!(
            run_steps(&steps).await.0,
            Failure::setup("the disk is full").into()
        );
    }

    #[tokio::test]
    async fn a_flood_has_the_size_asked_for() {
        for bytes in [0, 1, 65_536, 1_000_001] {
            let (outcome, log) = run_steps(&[TestStep::FloodBytes(bytes)]).await;
            assert_eq!(outcome, succeeded());
            assert_eq!(log.len() as u64, bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_is_heeded_in_every_step_at_once() {
        for step in [
            TestStep::Hang,
            TestStep::SleepMs(u64::MAX),
            TestStep::FloodBytes(u64::MAX),
        ] {
            let cancel = CancellationToken::new();
            let canceller = cancel.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                canceller.cancel();
            });
            let start = tokio::time::Instant::now();
            let (outcome, _) =
                run_spec(spec(test_job(std::slice::from_ref(&step)).unwrap()), cancel).await;
            assert_eq!(outcome, Outcome::Cancelled, "{step:?}");
            assert_eq!(start.elapsed(), Duration::ZERO, "{step:?}");
        }
    }

    #[tokio::test]
    async fn a_script_that_cannot_be_read_is_the_user_s_fault() {
        let job = CustomJob::new(TEST_KIND, |mut root| root.set_as("[{\"prnt\": \"x\"}]")).unwrap();
        let (outcome, _) = run_spec(spec(job), CancellationToken::new()).await;
        let Outcome::Failed(failure) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(failure.cause, crate::executor::Cause::Request);
        assert!(
            failure.message.contains("unknown variant `prnt`"),
            "{}",
            failure.message
        );
    }
}
