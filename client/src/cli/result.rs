//! How a job ended, in the words of OCluster's own client or as JSON.

use ocluster_cli::{ExitCode, Failure, OutputMode, ocaml_string, output};
use ocluster_vat::RpcError;
use serde::Serialize;

#[derive(Serialize)]
struct JobResult<'a> {
    /// The job's id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    /// `passed` or `failed`.
    state: &'static str,
    /// What the job printed as its result, if it passed.
    output: Option<&'a str>,
    /// Why it failed.
    error: Option<String>,
}

/// Prints the result, and gives the exit code that goes with it.
pub(crate) fn print_result(
    id: Option<&str>,
    result: Result<String, RpcError>,
    mode: OutputMode,
) -> Result<ExitCode, Failure> {
    let code = if result.is_ok() {
        ExitCode::Success
    } else {
        ExitCode::Failed
    };
    match (mode, result) {
        (OutputMode::Human, Ok(text)) if text.is_empty() => {}
        (OutputMode::Human, Ok(text)) => {
            output::line(format!("Result: {}", ocaml_string(text.as_bytes())))?;
        }
        (OutputMode::Human, Err(error)) => output::line(format!("{error}."))?,
        (OutputMode::Json, Ok(text)) => output::json(JobResult {
            id,
            state: "passed",
            output: Some(&text),
            error: None,
        })?,
        (OutputMode::Json, Err(error)) => output::json(JobResult {
            id,
            state: "failed",
            output: None,
            error: Some(error.to_string()),
        })?,
    }
    Ok(code)
}

/// The end of a program whose job's log cannot be read to its end. As JSON that is a result, too.
pub(crate) fn log_failure(
    id: Option<&str>,
    error: RpcError,
    mode: OutputMode,
) -> Result<Failure, Failure> {
    let hint = match error {
        RpcError::Unimplemented(_) => ". Is this capability a client's?",
        _ => "",
    };
    let failure = Failure::failed(format!("Error tailing logs: {error}{hint}"));
    if mode == OutputMode::Json {
        print_result(id, Err(error), mode)?;
    }
    Ok(failure)
}
