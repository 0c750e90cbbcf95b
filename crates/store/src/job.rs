//! The record of a job: who asked for it, where it went, how it ended and when.
//!
//! A record holds no description of the work and no log; it stays small, so that hundreds of thousands can be kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::JobId;

/// What is known about one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job's id, unique and growing over the life of the state directory.
    pub id: JobId,
    /// The pool it was submitted to.
    pub pool: String,
    /// The client who submitted it.
    pub client: String,
    /// Its cache hint; may be empty.
    pub hint: String,
    /// Whether it was submitted as urgent.
    pub urgent: bool,
    /// What kind of work it is.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// Why it stands there, when there is more to say than the state does.
    pub cause: Option<Cause>,
    /// When it got where.
    pub times: JobTimes,
    /// The last worker it was given to.
    pub worker: Option<String>,
    /// Which attempt this is: 0 until a worker accepts it, then 1, 2, ...
    pub attempt: u32,
    /// The output of a passed job, as `Job.result` gives it.
    pub output: String,
    /// Bytes of log stored, when last recorded.
    pub log_length: u64,
    /// SHA-256 of the whole log, once the job is over.
    #[serde(with = "crate::text_form::optional_hash")]
    pub log_digest: Option<[u8; 32]>,
    /// Whether it survives its client, its worker and the scheduler. Only such a job is there again after a restart.
    pub durable: bool,
    /// Its place in the queue: the fair start it was given, in seconds since the Unix epoch.
    #[serde(with = "crate::text_form::number")]
    pub fair_start: f64,
    /// How long it may take.
    pub limits: TimeLimits,
    /// The attempts that came to nothing, oldest first; at most [`JobRecord::MAX_ATTEMPTS`], the first ones go.
    pub attempts: Vec<Attempt>,
    /// Where in the log the present attempt's own begins.
    pub log_start: u64,
    /// SHA-256 of the secret by which the worker of the present attempt is known again.
    #[serde(with = "crate::text_form::optional_hash")]
    pub worker_identity: Option<[u8; 32]>,
    /// The key the client chose for it, if it did: one job per client and key.
    pub key: Option<String>,
    /// SHA-256 of what was submitted under that key, to tell the same job from another.
    #[serde(with = "crate::text_form::optional_hash")]
    pub submission_digest: Option<[u8; 32]>,
    /// Somebody wants it to end, which its worker may not know yet.
    pub stop: Option<Cause>,
}

/// How long a job may take, in milliseconds; no limit where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimeLimits {
    /// One attempt on a worker.
    pub running: Option<u64>,
    /// Waiting for a worker, all in all.
    pub queued: Option<u64>,
    /// Running without printing anything.
    pub silent: Option<u64>,
}

/// An attempt that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The worker it ran on.
    pub worker: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub started: u64,
    /// When it was over.
    pub ended: u64,
    /// Why.
    pub cause: Cause,
    /// Where in the job's log its own begins.
    pub log_start: u64,
    /// Whether it counts against the bound on attempts: one that an administrator ended does not.
    pub counts: bool,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// It waits, in the pool's queue or in a worker's.
    Queued,
    /// It runs on [`JobRecord::worker`] as [`JobRecord::attempt`].
    Running,
    /// It ended well.
    Passed,
    /// It ended badly by its own doing.
    Failed,
    /// Somebody cancelled it, or everybody let go of it.
    Cancelled,
    /// It was stopped at its time limit.
    TimedOut,
    /// Nobody knows how it ended: its worker or the scheduler went away.
    Lost,
}

impl JobState {
    /// Whether the job is over, whatever the way.
    #[must_use]
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The state's name for tables and JSON: `queued`, `running`, `passed`, `failed`, `cancelled`, `timed-out`, `lost`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a job stands where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A code for machines: short, lower-case, words joined by `-`, such as `worker-lost`.
    pub code: String,
    /// One sentence for people.
    pub sentence: String,
}

/// When a job got where, in milliseconds since the Unix epoch by the scheduler's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobTimes {
    /// It was submitted.
    pub queued: u64,
    /// It was last put on a worker's own queue.
    pub assigned: Option<u64>,
    /// A worker last accepted it.
    pub started: Option<u64>,
    /// It ended.
    pub ended: Option<u64>,
}

/// What kind of work a job is. Written `docker`, `obuilder` or `custom:KIND`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobKind {
    /// A Docker build.
    Docker,
    /// An OBuilder build.
    Obuilder,
    /// A custom job of this kind.
    Custom(String),
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Obuilder => f.write_str("obuilder"),
            Self::Custom(kind) => write!(f, "custom:{kind}"),
        }
    }
}

/// A text that names no kind of job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of job; use docker, obuilder or custom:KIND")]
pub struct ParseJobKindError(String);

impl FromStr for JobKind {
    type Err = ParseJobKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "docker" => Ok(Self::Docker),
            "obuilder" => Ok(Self::Obuilder),
            other => match other.strip_prefix("custom:") {
                Some(kind) => Ok(Self::Custom(kind.to_owned())),
                None => Err(ParseJobKindError(other.to_owned())),
            },
        }
    }
}

impl JobRecord {
    /// How many attempts a record tells of.
    pub const MAX_ATTEMPTS: usize = 32;

    /// A job that was just queued: no worker, no attempt, no output.
    #[must_use]
    pub fn queued(id: JobId, pool: &str, client: &str, kind: JobKind, queued_ms: u64) -> Self {
        Self {
            id,
            pool: pool.to_owned(),
            client: client.to_owned(),
            hint: String::new(),
            urgent: false,
            kind,
            state: JobState::Queued,
            cause: None,
            times: JobTimes {
                queued: queued_ms,
                ..JobTimes::default()
            },
            worker: None,
            attempt: 0,
            output: String::new(),
            log_length: 0,
            log_digest: None,
            durable: false,
            fair_start: 0.0,
            limits: TimeLimits::default(),
            attempts: Vec::new(),
            log_start: 0,
            worker_identity: None,
            key: None,
            submission_digest: None,
            stop: None,
        }
    }

    /// Bytes of text the record holds on the heap.
    pub(crate) fn text_bytes(&self) -> usize {
        let cause_bytes = |cause: &Cause| cause.code.len() + cause.sentence.len();
        let causes = [&self.cause, &self.stop];
        let cause: usize = causes.into_iter().flatten().map(cause_bytes).sum();
        let attempts: usize = self
            .attempts
            .iter()
            .map(|a| size_of::<Attempt>() + a.worker.len() + cause_bytes(&a.cause))
            .sum();
        let kind = match &self.kind {
            JobKind::Custom(kind) => kind.len(),
            JobKind::Docker | JobKind::Obuilder => 0,
        };
        self.pool.len()
            + self.client.len()
            + self.hint.len()
            + self.output.len()
            + self.worker.as_ref().map_or(0, String::len)
            + self.key.as_ref().map_or(0, String::len)
            + cause
            + attempts
            + kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_back_as_they_are_written() {
        for kind in [
            JobKind::Docker,
            JobKind::Obuilder,
            JobKind::Custom("test:x".to_owned()),
        ] {
            assert_eq!(kind.to_string().parse::<JobKind>().unwrap(), kind);
        }
        let error = "podman".parse::<JobKind>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"podman\" is not a kind of job; use docker, obuilder or custom:KIND"
        );
    }

    #[test]
    fn only_queued_and_running_jobs_are_not_over() {
        assert!(!JobState::Queued.is_ended());
        assert!(!JobState::Running.is_ended());
        for state in [
            JobState::Passed,
            JobState::Failed,
            JobState::Cancelled,
            JobState::TimedOut,
            JobState::Lost,
        ] {
            assert!(state.is_ended(), "{state}");
        }
    }
}
