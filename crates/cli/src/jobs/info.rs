//! The record of a job, as a scheduler tells it.

use ocluster_api::extensions_capnp::{attempt_info, job_info};

use super::{JobLimits, JobState};

/// What a scheduler says of a job. Times are milliseconds since the Unix epoch by the scheduler's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// The job's id, such as `j31n03`.
    pub id: String,
    /// The pool it was submitted to.
    pub pool: String,
    /// Whose it is.
    pub client: String,
    /// Its cache hint; may be empty.
    pub hint: String,
    /// Whether it goes before all that are not urgent.
    pub urgent: bool,
    /// `docker`, `obuilder` or `custom:KIND`.
    pub kind: String,
    /// Where it stands.
    pub state: JobState,
    /// Why, where there is more to say than the state does.
    pub cause: Option<JobCause>,
    /// The number of the attempt, from 1; 0 until a worker takes it.
    pub attempt: u32,
    /// The last worker it was given to.
    pub worker: Option<String>,
    /// When it was submitted.
    pub queued_at: Option<u64>,
    /// When it was last put on a worker's own queue.
    pub assigned_at: Option<u64>,
    /// When a worker last took it.
    pub started_at: Option<u64>,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// What a passed job has to show; often nothing.
    pub output: String,
    /// Bytes of its log.
    pub log_length: u64,
    /// SHA-256 of the whole log in hexadecimal, once it has ended.
    pub log_digest: Option<String>,
    /// Whether it outlives the client that submitted it.
    pub durable: bool,
    /// The key the client chose for it.
    pub key: Option<String>,
    /// The limits in force.
    pub limits: JobLimits,
    /// All attempts, but for the one that is under way.
    pub attempts: Vec<Attempt>,
    /// It runs on a worker that is not connected at present.
    pub waits_for_worker: bool,
    /// Where in its log the own of the last attempt begins.
    pub log_start: u64,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCause {
    /// For machines, such as `worker-lost`.
    pub code: String,
    /// One sentence for people.
    pub sentence: String,
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The worker it ran on.
    pub worker: String,
    /// When it began.
    pub started_at: Option<u64>,
    /// When it was over.
    pub ended_at: Option<u64>,
    /// Why it was.
    pub cause: Option<JobCause>,
    /// Where in the job's log its own begins.
    pub log_start: u64,
}

impl JobInfo {
    /// From the wire.
    ///
    /// # Errors
    /// When the message is damaged.
    pub fn read(info: job_info::Reader<'_>) -> Result<Self, capnp::Error> {
        let attempts = info.get_attempts()?;
        Ok(Self {
            id: text(info.get_id()?),
            pool: text(info.get_pool()?),
            client: text(info.get_client()?),
            hint: text(info.get_hint()?),
            urgent: info.get_urgent(),
            kind: text(info.get_kind()?),
            state: JobState::of_name(&text(info.get_state()?)),
            cause: cause(info.get_cause_code()?, info.get_cause_sentence()?),
            attempt: info.get_attempt(),
            worker: filled(info.get_worker()?),
            queued_at: time(info.get_queued_at()),
            assigned_at: time(info.get_assigned_at()),
            started_at: time(info.get_started_at()),
            ended_at: time(info.get_ended_at()),
            output: text(info.get_output()?),
            log_length: info.get_log_length(),
            log_digest: filled(info.get_log_digest()?),
            durable: info.get_durable(),
            key: filled(info.get_key()?),
            limits: JobLimits::read(info.get_limits()?),
            attempts: attempts
                .iter()
                .map(Attempt::read)
                .collect::<Result<_, _>>()?,
            waits_for_worker: info.get_waits_for_worker(),
            log_start: info.get_log_start(),
        })
    }

    /// Whether the job has ended well.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.state == JobState::Passed
    }

    /// How long the last attempt took, or took until it ended. None as long as it lasts.
    #[must_use]
    pub fn ran_ms(&self) -> Option<u64> {
        self.ended_at?.checked_sub(self.started_at?)
    }

    /// Why the job stands where it stands, if there is more to say than the state does: one sentence, or the code if there is none.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.cause.as_ref().map(JobCause::words)
    }
}

impl JobCause {
    /// The sentence, or the code if there is none.
    #[must_use]
    pub fn words(&self) -> &str {
        if self.sentence.is_empty() {
            &self.code
        } else {
            &self.sentence
        }
    }
}

impl Attempt {
    fn read(attempt: attempt_info::Reader<'_>) -> Result<Self, capnp::Error> {
        Ok(Self {
            number: attempt.get_number(),
            worker: text(attempt.get_worker()?),
            started_at: time(attempt.get_started_at()),
            ended_at: time(attempt.get_ended_at()),
            cause: cause(attempt.get_cause_code()?, attempt.get_cause_sentence()?),
            log_start: attempt.get_log_start(),
        })
    }
}

/// What is not text is shown as well as it can be: a record with a strange letter is still a record.
pub(super) fn text(text: capnp::text::Reader<'_>) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

fn filled(wire: capnp::text::Reader<'_>) -> Option<String> {
    Some(text(wire)).filter(|text| !text.is_empty())
}

fn time(ms: u64) -> Option<u64> {
    (ms > 0).then_some(ms)
}

fn cause(code: capnp::text::Reader<'_>, sentence: capnp::text::Reader<'_>) -> Option<JobCause> {
    let cause = JobCause {
        code: text(code),
        sentence: text(sentence),
    };
    (!cause.code.is_empty() || !cause.sentence.is_empty()).then_some(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_on_the_wire_is_absent() {
        let mut message = capnp::message::Builder::new_default();
        {
            let mut info: job_info::Builder<'_> = message.init_root();
            info.set_id("j12");
            info.set_state("queued");
            info.set_queued_at(5);
        }
        let info = JobInfo::read(message.get_root_as_reader().unwrap()).unwrap();
        assert_eq!((info.id.as_str(), &info.state), ("j12", &JobState::Queued));
        assert_eq!((info.queued_at, info.started_at), (Some(5), None));
        assert_eq!((info.cause, info.worker, info.key), (None, None, None));
    }

    #[test]
    fn a_cause_without_a_sentence_is_told_by_its_code() {
        let cause = JobCause {
            code: "worker-lost".to_owned(),
            sentence: String::new(),
        };
        assert_eq!(cause.words(), "worker-lost");
    }
}
