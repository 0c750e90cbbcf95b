//! Whoever looks at everything when it is over: asks the scheduler for the record and the whole log of every durable job.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ocluster_api::extensions_capnp::{job_info, submission_endpoint};
use ocluster_client::RpcError;

use super::client::{Access, as_job, find};
use crate::history::History;

/// An attempt, as the record has it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// The worker.
    pub worker: String,
    /// Milliseconds by the scheduler's clock.
    pub started_at: u64,
    /// The same; 0 if it did not end by itself.
    pub ended_at: u64,
    /// Why it ended.
    pub cause: String,
    /// Where its log begins.
    pub log_start: u64,
}

/// What the scheduler says of a job when all is over.
#[derive(Clone, Debug)]
pub struct Audited {
    /// How it ended.
    pub state: String,
    /// Why.
    pub cause: String,
    /// Its output.
    pub output: String,
    /// The number of its last attempt.
    pub attempt: u32,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
    /// The log, and how reading it ended if it broke.
    pub log: (Vec<u8>, Option<String>),
    /// The length of the log by the record.
    pub log_length: u64,
    /// The digest of the log by the record.
    pub log_digest: String,
}

/// The auditor's host.
#[derive(Clone)]
pub struct Auditor {
    /// Set when it is time.
    pub begin: Rc<Cell<bool>>,
    /// Set when it is done.
    pub done: Rc<Cell<bool>>,
    /// The clients.
    pub clients: Vec<String>,
    /// Where the ids are.
    pub history: History,
    /// What it found, by the jobs' keys.
    pub found: Rc<RefCell<BTreeMap<String, Audited>>>,
}

impl Auditor {
    /// Its life.
    ///
    /// # Errors
    /// Never: whatever happens is noted.
    pub async fn live(self) -> turmoil::Result {
        while !self.begin.get() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for client in &self.clients {
            let access = Access::new(client);
            for (key, job) in self.history.jobs() {
                let Some((_, id)) = job.accepted else {
                    continue;
                };
                if !key.starts_with(&format!("{client}/")) {
                    continue;
                }
                let (_, _, endpoint) = access.get().await;
                match audit(&endpoint, &id).await {
                    Ok(audited) => {
                        self.found.borrow_mut().insert(key, audited);
                    }
                    Err(error) => self
                        .history
                        .violation(format_args!("{key} ({id}) was accepted, and now: {error}")),
                }
            }
        }
        self.done.set(true);
        std::future::pending().await
    }
}

async fn audit(endpoint: &submission_endpoint::Client, id: &str) -> Result<Audited, RpcError> {
    let handle = find(endpoint, id).await?;
    let response = handle.info_request().send().promise.await?;
    let mut audited = read(response.get()?.get_info()?)?;
    let over = !matches!(audited.state.as_str(), "queued" | "running");
    while over {
        let mut request = as_job(&handle).log_request();
        let start = i64::try_from(audited.log.0.len()).unwrap_or(i64::MAX);
        request.get().set_start(start);
        let response = match request.send().promise.await {
            Ok(response) => response,
            Err(error) => {
                audited.log.1 = Some(error.to_string());
                break;
            }
        };
        let piece = response.get()?.get_log()?;
        if piece.is_empty() {
            break;
        }
        audited.log.0.extend_from_slice(piece);
    }
    Ok(audited)
}

fn read(info: job_info::Reader<'_>) -> Result<Audited, RpcError> {
    let text =
        |text: capnp::text::Reader<'_>| String::from_utf8_lossy(text.as_bytes()).into_owned();
    let mut attempts = Vec::new();
    for attempt in info.get_attempts()? {
        attempts.push(Attempt {
            number: attempt.get_number(),
            worker: text(attempt.get_worker()?),
            started_at: attempt.get_started_at(),
            ended_at: attempt.get_ended_at(),
            cause: text(attempt.get_cause_code()?),
            log_start: attempt.get_log_start(),
        });
    }
    Ok(Audited {
        state: text(info.get_state()?),
        cause: format!(
            "{}: {}",
            text(info.get_cause_code()?),
            text(info.get_cause_sentence()?)
        ),
        output: text(info.get_output()?),
        attempt: info.get_attempt(),
        attempts,
        log: (Vec::new(), None),
        log_length: info.get_log_length(),
        log_digest: text(info.get_log_digest()?),
    })
}
