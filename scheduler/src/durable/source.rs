//! What the scheduler asks of the worker that has a durable job: the outcome, the log, and to stop.
//!
//! Workers that know our extension tell how a job failed; others only that it did.

use std::time::Duration;

use bytes::Bytes;
use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::leased_job;
use ocluster_joblog::{LogWriter, WriteError};
use ocluster_store::{Cause, JobState};
use ocluster_vat::RpcError;

use super::attempt::Attempt;
use crate::job::MAX_TEXT;

/// How long a worker that has told the outcome may be silent about the rest of the log.
const LOG_GRACE: Duration = Duration::from_secs(60);

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

/// How the copying of a log ended.
#[derive(Debug)]
pub(crate) enum LogEnd {
    /// The worker said that it is complete.
    Complete,
    /// The worker is away.
    Away,
    /// The worker does not serve it any more, for this reason.
    Broken(String),
    /// It cannot be kept here.
    Disk(WriteError),
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
                    output: cut(response.get()?.get_output()?.to_str().unwrap_or_default()),
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

    /// Copies the log from where it stopped to its end. `outcome_known` is done when the outcome is known.
    pub(crate) async fn copy_log(
        &self,
        attempt: &Attempt,
        log: &mut LogWriter,
        outcome_known: impl Future<Output = ()>,
    ) -> LogEnd {
        let job = self.as_job();
        let mut too_late = std::pin::pin!(async {
            outcome_known.await;
            tokio::time::sleep(LOG_GRACE).await;
        });
        loop {
            let start = attempt.received.get();
            let mut request = job.log_request();
            request
                .get()
                .set_start(i64::try_from(start).unwrap_or(i64::MAX));
            let response = tokio::select! {
                response = request.send().promise => response,
                () = &mut too_late => {
                    return LogEnd::Broken("the worker did not complete the log in time".to_owned());
                }
            };
            let chunk = response.and_then(|response| {
                let results = response.get()?;
                Ok((
                    Bytes::copy_from_slice(results.get_log()?),
                    results.get_next(),
                ))
            });
            let (data, next) = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    return match RpcError::from(error) {
                        RpcError::Disconnected(_) => LogEnd::Away,
                        other => LogEnd::Broken(other.reason().to_owned()),
                    };
                }
            };
            if data.is_empty() {
                return LogEnd::Complete;
            }
            let length = data.len() as u64;
            if u64::try_from(next).ok() != Some(start + length) {
                return LogEnd::Broken(format!(
                    "the worker's log goes on at byte {next} instead of {}",
                    start + length
                ));
            }
            if let Err(error) = log.append(data).await {
                return LogEnd::Disk(error);
            }
            attempt.received.set(start + length);
            attempt.log_length.set(log.length());
            attempt.last_output.set(tokio::time::Instant::now());
        }
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
            sentence: cut(error.reason()),
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
                cut(other)
            )));
        }
    };
    let sentence = cut(outcome.get_cause_sentence()?.to_str()?);
    let code = outcome.get_cause_code()?.to_str()?;
    Ok(Outcome {
        state,
        output: cut(outcome.get_output()?.to_str()?),
        cause: (state != JobState::Passed).then(|| Cause {
            code: if code.is_empty() {
                "build-failed".to_owned()
            } else {
                cut(code)
            },
            sentence,
        }),
        infrastructure: outcome.get_infrastructure(),
        log_length: Some(outcome.get_log_length()),
    })
}

/// The first 64 KiB of a text from outside.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}
