//! Jobs as JSON. The names and meanings of the fields are a promise to scripts, told in `docs/json.md`: new ones may come, none goes.
//!
//! To be printed by [`crate::output::json`], which puts the version first.

use std::time::Duration;

use serde::Serialize;

use super::text::utc_time;
use super::{Attempt, Explanation, JobCause, JobInfo, JobLimits, JobPage};

/// One job.
#[derive(Debug, Serialize)]
pub struct JsonJob<'a> {
    id: &'a str,
    state: &'a str,
    pool: &'a str,
    client: &'a str,
    hint: &'a str,
    urgent: bool,
    kind: &'a str,
    cause: Option<JsonCause<'a>>,
    attempt: u32,
    worker: Option<&'a str>,
    worker_away: bool,
    queued_at: Option<String>,
    assigned_at: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    output: &'a str,
    log_length: u64,
    log_start: u64,
    log_digest: Option<&'a str>,
    durable: bool,
    key: Option<&'a str>,
    limits: JsonLimits,
    attempts: Vec<JsonAttempt<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonCause<'a> {
    code: &'a str,
    sentence: &'a str,
}

#[derive(Debug, Serialize)]
struct JsonLimits {
    running_ms: Option<u64>,
    queued_ms: Option<u64>,
    silent_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct JsonAttempt<'a> {
    number: u32,
    worker: &'a str,
    started_at: Option<String>,
    ended_at: Option<String>,
    cause: Option<JsonCause<'a>>,
    log_start: u64,
}

/// A list of jobs, newest first.
#[derive(Debug, Serialize)]
pub struct JsonJobList<'a> {
    jobs: Vec<JsonJob<'a>>,
    more: Option<&'a str>,
}

/// Why a job stands where it stands.
#[derive(Debug, Serialize)]
pub struct JsonExplanation<'a> {
    summary: &'a str,
    details: &'a [String],
    job: JsonJob<'a>,
}

impl<'a> From<&'a JobInfo> for JsonJob<'a> {
    fn from(job: &'a JobInfo) -> Self {
        Self {
            id: &job.id,
            state: job.state.name(),
            pool: &job.pool,
            client: &job.client,
            hint: &job.hint,
            urgent: job.urgent,
            kind: &job.kind,
            cause: job.cause.as_ref().map(JsonCause::from),
            attempt: job.attempt,
            worker: job.worker.as_deref(),
            worker_away: job.waits_for_worker,
            queued_at: job.queued_at.and_then(utc_time),
            assigned_at: job.assigned_at.and_then(utc_time),
            started_at: job.started_at.and_then(utc_time),
            ended_at: job.ended_at.and_then(utc_time),
            output: &job.output,
            log_length: job.log_length,
            log_start: job.log_start,
            log_digest: job.log_digest.as_deref(),
            durable: job.durable,
            key: job.key.as_deref(),
            limits: JsonLimits::from(&job.limits),
            attempts: job.attempts.iter().map(JsonAttempt::from).collect(),
        }
    }
}

impl<'a> From<&'a JobCause> for JsonCause<'a> {
    fn from(cause: &'a JobCause) -> Self {
        Self {
            code: &cause.code,
            sentence: &cause.sentence,
        }
    }
}

impl From<&JobLimits> for JsonLimits {
    fn from(limits: &JobLimits) -> Self {
        let ms = |limit: Option<Duration>| {
            limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        };
        Self {
            running_ms: ms(limits.running),
            queued_ms: ms(limits.queued),
            silent_ms: ms(limits.silent),
        }
    }
}

impl<'a> From<&'a Attempt> for JsonAttempt<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            worker: &attempt.worker,
            started_at: attempt.started_at.and_then(utc_time),
            ended_at: attempt.ended_at.and_then(utc_time),
            cause: attempt.cause.as_ref().map(JsonCause::from),
            log_start: attempt.log_start,
        }
    }
}

impl<'a> From<&'a JobPage> for JsonJobList<'a> {
    fn from(page: &'a JobPage) -> Self {
        Self {
            jobs: page.jobs.iter().map(JsonJob::from).collect(),
            more: page.more.as_deref(),
        }
    }
}

impl<'a> From<&'a Explanation> for JsonExplanation<'a> {
    fn from(explanation: &'a Explanation) -> Self {
        Self {
            summary: &explanation.summary,
            details: &explanation.details,
            job: JsonJob::from(&explanation.job),
        }
    }
}
