//! A job's record in its wire form, as clients and administrators get to see it.
//!
//! Nothing of a record that serves the scheduler alone is told: neither identities of workers nor digests of submissions.

use ocluster_api::extensions_capnp::{attempt_info, explanation, job_info, time_limits};
use ocluster_store::{Attempt, Cause, JobRecord, TimeLimits};

use crate::jobs::{Explained, Shown};

/// Bytes of an answer that a record takes besides its texts, roughly.
const FIXED_BYTES: usize = 384;

/// How many bytes of an answer the record takes, roughly.
pub(super) fn text_bytes(record: &JobRecord) -> usize {
    let cause = |cause: &Cause| cause.code.len() + cause.sentence.len();
    let attempts = record
        .attempts
        .iter()
        .map(|attempt| 64 + attempt.worker.len() + cause(&attempt.cause));
    FIXED_BYTES
        + record.pool.len()
        + record.client.len()
        + record.hint.len()
        + record.output.len()
        + record.worker.as_ref().map_or(0, String::len)
        + record.key.as_ref().map_or(0, String::len)
        + record.cause.as_ref().map_or(0, cause)
        + attempts.sum::<usize>()
}

/// Writes one job.
pub(super) fn write(shown: &Shown, mut info: job_info::Builder<'_>) {
    let record = &shown.record;
    info.set_id(record.id.to_string());
    info.set_pool(&record.pool);
    info.set_client(&record.client);
    info.set_hint(&record.hint);
    info.set_urgent(record.urgent);
    info.set_kind(record.kind.to_string());
    info.set_state(record.state.name());
    if let Some(cause) = &record.cause {
        info.set_cause_code(&cause.code);
        info.set_cause_sentence(&cause.sentence);
    }
    info.set_attempt(record.attempt);
    info.set_worker(record.worker.as_deref().unwrap_or_default());
    info.set_queued_at(record.times.queued);
    info.set_assigned_at(record.times.assigned.unwrap_or(0));
    info.set_started_at(record.times.started.unwrap_or(0));
    info.set_ended_at(record.times.ended.unwrap_or(0));
    info.set_output(&record.output);
    info.set_log_length(record.log_length);
    info.set_log_start(record.log_start);
    if let Some(digest) = &record.log_digest {
        info.set_log_digest(hexadecimal(digest));
    }
    info.set_durable(record.durable);
    info.set_key(record.key.as_deref().unwrap_or_default());
    write_limits(&record.limits, info.reborrow().init_limits());
    info.set_waits_for_worker(shown.waits_for_worker);
    write_attempts(record, info);
}

/// Writes a list of jobs.
pub(super) fn write_all(
    shown: &[Shown],
    mut list: capnp::struct_list::Builder<'_, job_info::Owned>,
) {
    for (index, shown) in (0..list.len()).zip(shown) {
        write(shown, list.reborrow().get(index));
    }
}

/// How long a list has to be to hold so many.
pub(super) fn list_length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

/// Writes why a job stands where it stands.
pub(super) fn write_explanation(explained: &Explained, mut explanation: explanation::Builder<'_>) {
    explanation.set_summary(&explained.summary);
    let length = list_length(&explained.details);
    let mut details = explanation.reborrow().init_details(length);
    for (index, sentence) in (0..length).zip(&explained.details) {
        details.set(index, sentence);
    }
    write(&explained.shown, explanation.init_info());
}

fn write_limits(limits: &TimeLimits, mut written: time_limits::Builder<'_>) {
    written.set_running(limits.running.unwrap_or(0));
    written.set_queued(limits.queued.unwrap_or(0));
    written.set_silent(limits.silent.unwrap_or(0));
}

/// A record tells of attempts that came to nothing; here the one with which the job ended is told of as well.
fn write_attempts(record: &JobRecord, info: job_info::Builder<'_>) {
    let last = last_attempt(record);
    let count = record.attempts.len() + usize::from(last.is_some());
    let mut list = info.init_attempts(u32::try_from(count).unwrap_or(u32::MAX));
    for (index, attempt) in (0..list.len()).zip(record.attempts.iter().chain(&last)) {
        write_attempt(attempt, list.reborrow().get(index));
    }
}

/// The attempt with which the job ended, unless the record tells of it already.
fn last_attempt(record: &JobRecord) -> Option<Attempt> {
    let told = record
        .attempts
        .iter()
        .any(|told| told.number == record.attempt);
    if told || record.attempt == 0 || !record.state.is_ended() {
        return None;
    }
    Some(Attempt {
        number: record.attempt,
        worker: record.worker.clone().unwrap_or_default(),
        started: record.times.started.unwrap_or(0),
        ended: record.times.ended.unwrap_or(0),
        cause: record.cause.clone().unwrap_or_else(|| Cause {
            code: String::new(),
            sentence: String::new(),
        }),
        log_start: record.log_start,
        counts: true,
    })
}

fn write_attempt(attempt: &Attempt, mut info: attempt_info::Builder<'_>) {
    info.set_number(attempt.number);
    info.set_worker(&attempt.worker);
    info.set_started_at(attempt.started);
    info.set_ended_at(attempt.ended);
    info.set_cause_code(&attempt.cause.code);
    info.set_cause_sentence(&attempt.cause.sentence);
    info.set_log_start(attempt.log_start);
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use capnp::message::{Builder, HeapAllocator};
    use ocluster_store::{JobId, JobKind, JobState, JobTimes};

    use super::*;

    fn cause(code: &str) -> Cause {
        Cause {
            code: code.to_owned(),
            sentence: format!("the sentence of {code}"),
        }
    }

    fn lost_attempt() -> Attempt {
        Attempt {
            number: 1,
            worker: "w1".to_owned(),
            started: 20,
            ended: 30,
            cause: cause("worker-lost"),
            log_start: 0,
            counts: true,
        }
    }

    /// A job that passed on its second worker.
    fn passed() -> JobRecord {
        let kind = JobKind::Custom("test".to_owned());
        let mut record = JobRecord::queued(JobId::new(1), "linux", "alice", kind, 10);
        record.hint = "a-hint".to_owned();
        record.urgent = true;
        record.state = JobState::Passed;
        record.attempt = 2;
        record.worker = Some("w2".to_owned());
        record.times = JobTimes {
            queued: 10,
            assigned: Some(35),
            started: Some(40),
            ended: Some(50),
        };
        record.output = "sha256:1".to_owned();
        record.log_length = 1234;
        record.log_digest = Some([0xab; 32]);
        record.durable = true;
        record.key = Some("nightly".to_owned());
        record.limits.queued = Some(7);
        record.attempts = vec![lost_attempt()];
        record.log_start = 200;
        record.worker_identity = Some([0xcd; 32]);
        record.submission_digest = Some([0xef; 32]);
        record
    }

    fn written(record: JobRecord, waits_for_worker: bool) -> Builder<HeapAllocator> {
        let mut message = Builder::new_default();
        let shown = Shown {
            record,
            waits_for_worker,
        };
        write(&shown, message.init_root());
        message
    }

    #[test]
    fn all_that_concerns_a_job_is_told_and_nothing_else() {
        let message = written(passed(), false);
        let info: job_info::Reader<'_> = message.get_root_as_reader().unwrap();
        let digest = "ab".repeat(32);
        let told = format!("{info:?}");
        let expected = format!(
            "(id = \"j12\", pool = \"linux\", client = \"alice\", hint = \"a-hint\", urgent = true, kind = \"custom:test\", \
             state = \"passed\", attempt = 2, worker = \"w2\", queuedAt = 10, \
             assignedAt = 35, startedAt = 40, endedAt = 50, output = \"sha256:1\", logLength = 1234, \
             logDigest = \"{digest}\", durable = true, key = \"nightly\", \
             limits = (running = 0, queued = 7, silent = 0), attempts = [\
             (number = 1, worker = \"w1\", startedAt = 20, endedAt = 30, causeCode = \"worker-lost\", \
             causeSentence = \"the sentence of worker-lost\", logStart = 0), \
             (number = 2, worker = \"w2\", startedAt = 40, endedAt = 50, causeCode = \"\", causeSentence = \"\", \
             logStart = 200)], waitsForWorker = false, logStart = 200)"
        );
        assert_eq!(told, expected);
    }

    #[test]
    fn an_attempt_that_is_under_way_is_not_among_those_that_are_over() {
        let mut record = passed();
        record.state = JobState::Running;
        record.times.ended = None;
        let message = written(record, true);
        let info: job_info::Reader<'_> = message.get_root_as_reader().unwrap();
        let attempts = info.get_attempts().unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts.get(0).get_number(), 1);
        assert!(info.get_waits_for_worker());
        assert_eq!(info.get_ended_at(), 0);
    }

    #[test]
    fn a_last_attempt_that_came_to_nothing_is_told_of_once() {
        let mut record = passed();
        record.state = JobState::Lost;
        record.attempt = 1;
        record.cause = Some(cause("too-many-attempts"));
        let message = written(record, false);
        let info: job_info::Reader<'_> = message.get_root_as_reader().unwrap();
        assert_eq!(info.get_attempts().unwrap().len(), 1);
        assert_eq!(info.get_cause_code().unwrap(), "too-many-attempts");
    }

    #[test]
    fn a_job_that_no_worker_took_has_no_attempts() {
        let mut record = JobRecord::queued(JobId::new(1), "p", "c", JobKind::Docker, 10);
        record.state = JobState::Cancelled;
        let message = written(record, false);
        let info: job_info::Reader<'_> = message.get_root_as_reader().unwrap();
        assert!(info.get_attempts().unwrap().is_empty());
        assert_eq!(info.get_attempt(), 0);
        assert!(info.get_log_digest().unwrap().is_empty());
    }

    #[test]
    fn an_explanation_is_a_summary_its_details_and_the_job() {
        let mut message = Builder::new_default();
        let explained = Explained {
            summary: "It waits.".to_owned(),
            details: vec!["One.".to_owned(), "Two.".to_owned()],
            shown: Shown {
                record: passed(),
                waits_for_worker: false,
            },
        };
        write_explanation(&explained, message.init_root());
        let told: explanation::Reader<'_> = message.get_root_as_reader().unwrap();
        assert_eq!(told.get_summary().unwrap(), "It waits.");
        let details: Vec<_> = told.get_details().unwrap().iter().collect();
        assert_eq!(details.len(), 2);
        assert_eq!(told.get_details().unwrap().get(1).unwrap(), "Two.");
        assert_eq!(told.get_info().unwrap().get_id().unwrap(), "j12");
    }

    #[test]
    fn a_record_is_measured_by_its_texts() {
        let small = text_bytes(&passed());
        let mut record = passed();
        record.output = "o".repeat(10_000);
        record.attempts[0].cause.sentence = "s".repeat(10_000);
        assert!(text_bytes(&record) > small + 19_000);
    }
}
