//! A job as the scheduler tells of it, in plain values that outlive the answer.

use ocluster_api::extensions_capnp::{attempt_info, job_info};

/// A job's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) client: String,
    pub(crate) hint: String,
    pub(crate) urgent: bool,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) cause_code: String,
    pub(crate) cause_sentence: String,
    pub(crate) attempt: u32,
    pub(crate) worker: String,
    pub(crate) queued_at: u64,
    pub(crate) started_at: u64,
    pub(crate) ended_at: u64,
    pub(crate) output: String,
    pub(crate) log_length: u64,
    pub(crate) log_digest: String,
    pub(crate) durable: bool,
    pub(crate) key: String,
    /// Running, queued and silent.
    pub(crate) limits: (u64, u64, u64),
    pub(crate) attempts: Vec<AttemptView>,
    pub(crate) waits_for_worker: bool,
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptView {
    pub(crate) number: u32,
    pub(crate) worker: String,
    pub(crate) cause_code: String,
    pub(crate) cause_sentence: String,
    pub(crate) log_start: u64,
}

impl JobView {
    pub(crate) fn read(info: job_info::Reader<'_>) -> Self {
        let text =
            |text: capnp::Result<capnp::text::Reader<'_>>| text.unwrap().to_string().unwrap();
        let limits = info.get_limits().unwrap();
        Self {
            id: text(info.get_id()),
            pool: text(info.get_pool()),
            client: text(info.get_client()),
            hint: text(info.get_hint()),
            urgent: info.get_urgent(),
            kind: text(info.get_kind()),
            state: text(info.get_state()),
            cause_code: text(info.get_cause_code()),
            cause_sentence: text(info.get_cause_sentence()),
            attempt: info.get_attempt(),
            worker: text(info.get_worker()),
            queued_at: info.get_queued_at(),
            started_at: info.get_started_at(),
            ended_at: info.get_ended_at(),
            output: text(info.get_output()),
            log_length: info.get_log_length(),
            log_digest: text(info.get_log_digest()),
            durable: info.get_durable(),
            key: text(info.get_key()),
            limits: (
                limits.get_running(),
                limits.get_queued(),
                limits.get_silent(),
            ),
            attempts: info
                .get_attempts()
                .unwrap()
                .iter()
                .map(AttemptView::read)
                .collect(),
            waits_for_worker: info.get_waits_for_worker(),
        }
    }

    /// Where it stands, in short: state, attempt and worker.
    pub(crate) fn stand(&self) -> (&str, u32, &str) {
        (&self.state, self.attempt, &self.worker)
    }

    /// The attempts that are over, in short: number, worker and cause code.
    pub(crate) fn story(&self) -> Vec<(u32, &str, &str)> {
        self.attempts
            .iter()
            .map(|attempt| {
                (
                    attempt.number,
                    attempt.worker.as_str(),
                    attempt.cause_code.as_str(),
                )
            })
            .collect()
    }
}

impl AttemptView {
    fn read(info: attempt_info::Reader<'_>) -> Self {
        let text =
            |text: capnp::Result<capnp::text::Reader<'_>>| text.unwrap().to_string().unwrap();
        Self {
            number: info.get_number(),
            worker: text(info.get_worker()),
            cause_code: text(info.get_cause_code()),
            cause_sentence: text(info.get_cause_sentence()),
            log_start: info.get_log_start(),
        }
    }
}
