//! What the scheduler asks of the worker that has a durable job: the outcome, the log, and to stop.
//!
//! Workers that know our extension tell how a job failed; others only that it did.

use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::leased_job;
use ocluster_joblog::LogWriter;
use ocluster_store::{Cause, JobState};
use ocluster_vat::RpcError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use crate::job_run::cut;
use crate::tail::{self, TailEnd};

/// A job as its worker serves it.
#[derive(Clone)]
pub(crate) enum WorkerJob {
    /// By a worker that keeps it while it is away.
    Leased(leased_job::Client),
    /// By one that knows only the frozen protocol.
    Plain(job::Client),
}

/// How a job ended, as its worker says.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Passed, failed or cancelled.
    pub(crate) state: JobState,
    pub(crate) output: String,
    pub(crate) cause: Option<Cause>,
    /// Whether it failed because of the worker.
    pub(crate) infrastructure: bool,
    /// Bytes of the whole log, if the worker says so.
    pub(crate) log_length: Option<u64>,
}

impl WorkerJob {
    /// The job by the frozen protocol.
    pub(crate) fn as_job(&self) -> job::Client {
        match self {
            Self::Leased(job) => capnp::capability::FromClientHook::cast_to(job.clone()),
            Self::Plain(job) => job.clone(),
        }
    }

    /// Waits for the outcome.
    pub(crate) async fn outcome(&self) -> Result<Outcome, RpcError> {
        match self {
            Self::Leased(job) => {
                let response = job.outcome_request().send().promise.await?;
                Ok(read(response.get()?.get_outcome()?)?)
            }
            Self::Plain(job) => match job.result_request().send().promise.await {
                Ok(response) => Ok(Outcome {
                    state: JobState::Passed,
                    output: cut(response.get()?.get_output()?.to_str().unwrap_or_default())
                        .to_owned(),
                    cause: None,
                    infrastructure: false,
                    log_length: None,
                }),
                Err(error) => plain_failure(error.into()),
            },
        }
    }

    /// Tells the worker to stop. Its answer says nothing: the outcome will tell.
    pub(crate) fn cancel(&self) {
        tokio::task::spawn_local(self.as_job().cancel_request().send().promise);
    }

    /// Tells the worker that it may forget the job.
    pub(crate) fn settle(&self) {
        if let Self::Leased(job) = self {
            tokio::task::spawn_local(job.settle_request().send().promise);
        }
    }

    /// Whether the worker keeps the job while it is away.
    pub(crate) fn survives(&self) -> bool {
        matches!(self, Self::Leased(_))
    }

    /// Copies the log from where it stopped to its end. `told` fires when the worker has told the outcome.
    pub(crate) async fn copy_log(
        &self,
        attempt: &Attempt,
        log: &mut LogWriter,
        told: &CancellationToken,
    ) -> TailEnd {
        let copied = |received, log: &LogWriter| {
            attempt.received.set(received);
            attempt.log_length.set(log.length());
            attempt.last_output.set(Instant::now());
        };
        let told = async || told.cancelled().await;
        tail::copy(&self.as_job(), attempt.received.get(), log, told, copied).await
    }
}

/// The words of the frozen protocol, which says little.
fn plain_failure(error: RpcError) -> Result<Outcome, RpcError> {
    let (state, code, infrastructure) = match &error {
        RpcError::Disconnected(_) => return Err(error),
        other => match other.reason() {
            "Build failed" => (JobState::Failed, "build-failed", false),
            "Build cancelled" => (JobState::Cancelled, "cancelled", false),
            // An exception of the worker's own, which says nothing about the job.
            _ => (JobState::Failed, "worker-error", true),
        },
    };
    Ok(Outcome {
        state,
        output: String::new(),
        cause: Some(Cause {
            code: code.to_owned(),
            sentence: cut(error.reason()).to_owned(),
        }),
        infrastructure,
        log_length: None,
    })
}

fn read(
    outcome: ocluster_api::extensions_capnp::job_outcome::Reader<'_>,
) -> capnp::Result<Outcome> {
    let state = match outcome.get_state()?.to_str()? {
        "passed" => JobState::Passed,
        "failed" => JobState::Failed,
        "cancelled" => JobState::Cancelled,
        other => {
            return Err(capnp::Error::failed(format!(
                "the worker reports the outcome \"{}\", which is none",
                cut(other).to_owned()
            )));
        }
    };
    let sentence = cut(outcome.get_cause_sentence()?.to_str()?).to_owned();
    let code = outcome.get_cause_code()?.to_str()?;
    Ok(Outcome {
        state,
        output: cut(outcome.get_output()?.to_str()?).to_owned(),
        cause: (state != JobState::Passed).then(|| Cause {
            code: if code.is_empty() {
                "build-failed".to_owned()
            } else {
                cut(code).to_owned()
            },
            sentence,
        }),
        infrastructure: outcome.get_infrastructure(),
        log_length: Some(outcome.get_log_length()),
    })
}
