//! How a job ended, for those who keep records: a state, a cause that machines know, a sentence for people.

use ocluster_api::extensions_capnp::job_outcome;

use super::terms::Stopped;
use crate::executor::{Failure, Outcome};

/// The longest sentence, in bytes. The whole of it is in the job's log.
const LONGEST_SENTENCE: usize = 1024;

/// How a job ended on this machine.
#[derive(Clone, Debug)]
pub(crate) enum JobResult {
    /// The executor's word.
    Outcome(Outcome),
    /// The executor panicked.
    Crashed,
}

/// What is told of an end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told<'a> {
    state: &'static str,
    output: &'a str,
    code: &'static str,
    sentence: String,
    infrastructure: bool,
}

impl<'a> Told<'a> {
    /// How a job ended that was stopped for this reason, if it was.
    pub(crate) fn of(result: &'a JobResult, stopped: Option<Stopped>) -> Self {
        match (result, stopped) {
            (JobResult::Outcome(Outcome::Succeeded { output }), _) => Self {
                state: "passed",
                output,
                code: "",
                sentence: String::new(),
                infrastructure: false,
            },
            (JobResult::Outcome(Outcome::Failed(failure)), _) => Self::failed(failure),
            (JobResult::Outcome(Outcome::Cancelled), Some(Stopped::WorkerStops)) => {
                Self::machine("worker-stopped", "the worker was stopped")
            }
            (JobResult::Outcome(Outcome::Cancelled), Some(Stopped::LeaseOver)) => Self::machine(
                "lease-over",
                "the worker gave the job up, having been without its scheduler for too long",
            ),
            (JobResult::Outcome(Outcome::Cancelled), Some(Stopped::Asked) | None) => Self {
                state: "cancelled",
                output: "",
                code: "cancelled",
                sentence: "the job was cancelled".to_owned(),
                infrastructure: false,
            },
            (JobResult::Crashed, _) => {
                Self::machine("crashed", "the worker's executor crashed; see its log")
            }
        }
    }

    /// A job that this worker was given and could not begin with.
    pub(crate) fn never_started() -> Self {
        Self::machine("worker-setup", "the worker could not start the job")
    }

    fn failed(failure: &Failure) -> Self {
        Self {
            state: "failed",
            output: "",
            code: failure.cause.record_code(),
            sentence: one_line(&failure.message, LONGEST_SENTENCE),
            infrastructure: failure.cause.is_the_workers(),
        }
    }

    fn machine(code: &'static str, sentence: &str) -> Self {
        Self {
            state: "failed",
            output: "",
            code,
            sentence: sentence.to_owned(),
            infrastructure: true,
        }
    }

    /// Puts it on the wire. `log_length` counts the bytes of the whole log.
    pub(crate) fn write(&self, mut outcome: job_outcome::Builder<'_>, log_length: u64) {
        outcome.set_state(self.state);
        outcome.set_output(self.output);
        outcome.set_cause_code(self.code);
        outcome.set_cause_sentence(&self.sentence);
        outcome.set_infrastructure(self.infrastructure);
        outcome.set_log_length(log_length);
    }
}

/// `text` as one line of at most `longest` bytes, without control characters; what is longer ends with an ellipsis.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    const CUT: &str = "…";
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        let space = usize::from(!line.is_empty());
        if line.len() + space + word.len() > longest {
            let room = longest.saturating_sub(CUT.len());
            if space == 1 && line.len() < room {
                line.push(' ');
            }
            if line.len() < room {
                let fits = word.floor_char_boundary(room - line.len());
                line.push_str(word.split_at(fits).0);
            }
            line.truncate(line.floor_char_boundary(room));
            line.push_str(CUT);
            break;
        }
        if space == 1 {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Cause;

    fn failed(cause: Cause) -> JobResult {
        JobResult::Outcome(Outcome::Failed(Failure {
            cause,
            message: "why\nit failed".to_owned(),
        }))
    }

    #[test]
    fn only_what_the_worker_is_to_blame_for_is_worth_trying_elsewhere() {
        for (cause, code, infrastructure) in [
            (Cause::Build, "build-failed", false),
            (Cause::Request, "bad-request", false),
            (Cause::Source, "source-failed", false),
            (Cause::Registry, "registry-failed", false),
            (Cause::Setup, "worker-setup", true),
            (Cause::DiskFull, "worker-disk-full", true),
            (Cause::Engine, "engine-away", true),
        ] {
            let result = failed(cause);
            let told = Told::of(&result, None);
            assert_eq!(
                (told.state, told.code, told.infrastructure),
                ("failed", code, infrastructure)
            );
            assert_eq!(told.sentence, "why it failed");
        }
        let crashed = Told::of(&JobResult::Crashed, None);
        assert_eq!((crashed.code, crashed.infrastructure), ("crashed", true));
    }

    #[test]
    fn a_cancel_is_the_scheduler_s_unless_the_worker_gave_the_job_up() {
        let cancelled = JobResult::Outcome(Outcome::Cancelled);
        for (stopped, state, code, infrastructure) in [
            (None, "cancelled", "cancelled", false),
            (Some(Stopped::Asked), "cancelled", "cancelled", false),
            (Some(Stopped::WorkerStops), "failed", "worker-stopped", true),
            (Some(Stopped::LeaseOver), "failed", "lease-over", true),
        ] {
            let told = Told::of(&cancelled, stopped);
            assert_eq!(
                (told.state, told.code, told.infrastructure),
                (state, code, infrastructure)
            );
        }
        let passed = JobResult::Outcome(Outcome::Succeeded {
            output: "sha256:1".to_owned(),
        });
        let told = Told::of(&passed, Some(Stopped::WorkerStops));
        assert_eq!((told.state, told.output), ("passed", "sha256:1"));
    }

    #[test]
    fn a_sentence_is_one_short_line() {
        assert_eq!(one_line(" a\r\n\tb \u{1b}[1m\0", 100), "a b [1m");
        assert_eq!(one_line("abcdef ghi", 10), "abcdef ghi");
        for text in [
            "é".repeat(2000),
            "é ".repeat(2000),
            format!("{} x y", "é".repeat(511)),
        ] {
            for longest in [1024, 1023, 1022, 40] {
                let line = one_line(&text, longest);
                assert!(line.len() <= longest, "{}", line.len());
                assert!(line.len() + 6 > longest.min(text.len()), "{}", line.len());
                assert!(line.ends_with('…') || line == text.trim(), "{line}");
            }
        }
    }
}
