//! The custom job kind `test`: a job that does as it is told, for tests, benchmarks and operators who want to see a failure.
//!
//! The payload is a text: a JSON list of steps, done in order. For example
//!
//! ```json
//! [{"print": "hello"}, {"sleep_ms": 20}, {"flood_bytes": 1000000}, {"exit": 3}]
//! ```
//!
//! This module only makes and reads such payloads; a worker that was told to offer the kind acts on them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::job::CustomJob;

/// What `CustomJob::kind` says of such a job.
pub const TEST_KIND: &str = "test";

/// One thing that a test job does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStep {
    /// `{"print": "text"}` writes the text and a line feed to the job's log.
    Print(String),
    /// `{"sleep_ms": 20}` waits, in milliseconds.
    SleepMs(u64),
    /// `{"exit": 3}` ends the job; zero is success, anything else a failed build.
    Exit(i32),
    /// `"hang"` waits until the job is cancelled.
    Hang,
    /// `{"fail_setup": "the disk is full"}` ends the job as if the worker had failed to prepare it, for the reason given.
    FailSetup(String),
    /// `{"flood_bytes": 1000000}` writes that many bytes to the job's log, as fast as it takes them.
    FloodBytes(u64),
}

/// Why a job cannot be made or read as a test job.
#[derive(Debug, Error)]
pub enum TestJobError {
    /// The payload is not a text, or not a message at all.
    #[error("the payload of a test job must be a text, with a JSON list of steps: {0}")]
    Payload(#[from] capnp::Error),
    /// The text is not UTF-8.
    #[error("the steps of a test job must be UTF-8 text")]
    NotUtf8,
    /// The text is not a list of steps.
    #[error(
        "the steps of a test job cannot be read ({0}); an example is [{{\"print\": \"hello\"}}, {{\"exit\": 3}}]"
    )]
    Steps(#[from] serde_json::Error),
}

/// A job that does `steps` in order and then succeeds.
///
/// # Errors
/// None that real steps can cause.
pub fn test_job(steps: &[TestStep]) -> Result<CustomJob, TestJobError> {
    let script = serde_json::to_string(steps)?;
    Ok(CustomJob::new(TEST_KIND, |mut root| {
        root.set_as(script.as_str())
    })?)
}

/// The steps of a job whose kind is [`TEST_KIND`].
///
/// # Errors
/// A [`TestJobError`] that says what is wrong with the payload.
pub fn read_test_job(job: &CustomJob) -> Result<Vec<TestStep>, TestJobError> {
    let payload = job.payload()?;
    let text = payload.get_root::<capnp::text::Reader<'_>>()?;
    let script = text.to_str().map_err(|_| TestJobError::NotUtf8)?;
    Ok(serde_json::from_str(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_for(script: &str) -> String {
        let job = CustomJob::new(TEST_KIND, |mut root| root.set_as(script)).unwrap();
        read_test_job(&job).unwrap_err().to_string()
    }

    #[test]
    fn steps_survive_the_payload() {
        let steps = vec![
            TestStep::Print("hello".into()),
            TestStep::SleepMs(20),
            TestStep::FloodBytes(1 << 40),
            TestStep::Hang,
            TestStep::FailSetup("the disk is full".into()),
            TestStep::Exit(-1),
        ];
        let job = test_job(&steps).unwrap();
        assert_eq!(job.kind, "test");
        assert_eq!(read_test_job(&job).unwrap(), steps);
    }

    #[test]
    fn the_documented_form_is_what_is_read() {
        let script = r#"[{"print": "hello"}, {"sleep_ms": 20}, {"flood_bytes": 5}, "hang", {"fail_setup": "x"}, {"exit": 3}]"#;
        let job = CustomJob::new(TEST_KIND, |mut root| root.set_as(script)).unwrap();
        let steps = read_test_job(&job).unwrap();
        assert_eq!(
            steps[1..=3],
            [
                TestStep::SleepMs(20),
                TestStep::FloodBytes(5),
                TestStep::Hang
            ]
        );
    }

    #[test]
    fn what_is_not_a_step_is_refused_by_name() {
        assert!(
            error_for(r#"[{"prnt": "x"}]"#)
                .contains("unknown variant `prnt`, expected one of `print`")
        );
        assert!(error_for(r#"{"print": "x"}"#).contains("cannot be read"));
        assert!(error_for(r#"[{"print": "x", "exit": 1}]"#).contains("cannot be read"));
        assert!(error_for(r#"[{"sleep_ms": -1}]"#).contains("invalid value: integer `-1`"));
        assert!(error_for("").contains("an example is [{\"print\": \"hello\"}, {\"exit\": 3}]"));
    }

    #[test]
    fn a_payload_that_is_no_text_is_refused() {
        let job = CustomJob {
            kind: TEST_KIND.into(),
            payload: b"junk".to_vec(),
        };
        assert!(
            read_test_job(&job)
                .unwrap_err()
                .to_string()
                .starts_with("the payload of a test job must be a text")
        );
        let job = CustomJob::new(TEST_KIND, |mut root| {
            root.set_as(capnp::text::Reader(b"[\xff]"))
        })
        .unwrap();
        assert_eq!(
            read_test_job(&job).unwrap_err().to_string(),
            "the steps of a test job must be UTF-8 text"
        );
    }
}
