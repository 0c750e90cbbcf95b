//! The one thing the program does: submit a job, follow it, say how it ended.

use std::time::Duration;

use ocluster_api::JobSpec;
use ocluster_cli::{
    ExitCode, Failure, Interrupt, OutputMode, Signal, connect, hang_up, ocaml_string, output,
};
use ocluster_vat::{DialOptions, RpcError, Stats, SturdyRef, Vat};
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::args::{Command, JobArgs};
use super::job_spec::job_spec;
use crate::{Client, FollowError, Job};

/// How long a program that was asked to end waits for the scheduler to confirm the cancellation.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long the result is waited for after the log broke off. A scheduler that cannot serve the log cannot give a result either;
/// hearing so before hanging up spares OCluster's own scheduler a race between its answer and our leaving.
const RESULT_GRACE: Duration = Duration::from_secs(1);

/// Runs the command to its end, or until `interrupt`.
pub(crate) async fn run(command: &Command, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    let spec = job_spec(command)?;
    let args = command.job();
    let cap = args.cap.load()?;
    let vat = Vat::client_only(Stats::new());
    let result = submit(args, &spec, &vat, &cap, interrupt).await;
    hang_up(&vat).await;
    result
}

async fn submit(
    args: &JobArgs,
    spec: &JobSpec,
    vat: &Vat,
    cap: &SturdyRef,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    let dialling = DialOptions::default();
    let client = tokio::select! {
        connection = connect(vat, cap, &dialling) => Client::over(connection?, cap),
        signal = interrupt.wait() => return Ok(signal.exit_code()),
    };
    let job = client
        .submit(&args.pool, spec, args.urgent)
        .map_err(|error| Failure::failed(format!("the job cannot be sent: {error}")))?;
    tokio::select! {
        result = follow(&job, args.output) => result,
        signal = interrupt.wait() => Ok(cancelled(&job, signal).await),
    }
}

async fn follow(job: &Job, mode: OutputMode) -> Result<ExitCode, Failure> {
    match mode {
        OutputMode::Human => {
            or_cancel(job, output::line("Tailing log:")).await?;
            tail(job, &mut tokio::io::stdout(), mode).await?;
        }
        OutputMode::Json => tail(job, &mut tokio::io::stderr(), mode).await?,
    }
    let result = job.result().await;
    let code = if result.is_ok() {
        ExitCode::Success
    } else {
        ExitCode::Failed
    };
    print_result(result, mode)?;
    Ok(code)
}

/// Writes the log. If nobody reads it any more, nobody wants the job.
async fn tail(
    job: &Job,
    writer: &mut (impl AsyncWrite + Unpin),
    mode: OutputMode,
) -> Result<(), Failure> {
    match job.follow_into(writer).await {
        Ok(_) => Ok(()),
        Err(FollowError::Write(error)) => or_cancel(job, Err(error)).await,
        Err(FollowError::Log(error)) => {
            drop(tokio::time::timeout(RESULT_GRACE, job.result()).await);
            let failure = Failure::failed(format!("Error tailing logs: {error}"));
            if mode == OutputMode::Json {
                print_result(Err(error), mode)?;
            }
            Err(failure)
        }
    }
}

async fn or_cancel(job: &Job, written: std::io::Result<()>) -> Result<(), Failure> {
    if written.is_err() {
        cancel(job).await;
    }
    Ok(written?)
}

#[derive(Serialize)]
struct JobResult<'a> {
    /// `passed` or `failed`.
    state: &'static str,
    /// What the job printed as its result, if it passed.
    output: Option<&'a str>,
    /// Why it failed.
    error: Option<String>,
}

fn print_result(result: Result<String, RpcError>, mode: OutputMode) -> Result<(), Failure> {
    match (mode, result) {
        (OutputMode::Human, Ok(output)) if output.is_empty() => Ok(()),
        (OutputMode::Human, Ok(output)) => Ok(output::line(format!(
            "Result: {}",
            ocaml_string(output.as_bytes())
        ))?),
        (OutputMode::Human, Err(error)) => Ok(output::line(format!("{error}."))?),
        (OutputMode::Json, Ok(output)) => Ok(output::json(JobResult {
            state: "passed",
            output: Some(&output),
            error: None,
        })?),
        (OutputMode::Json, Err(error)) => Ok(output::json(JobResult {
            state: "failed",
            output: None,
            error: Some(error.to_string()),
        })?),
    }
}

async fn cancelled(job: &Job, signal: Signal) -> ExitCode {
    let told = cancel(job).await;
    output::complain(if told {
        "Interrupted: the job was cancelled."
    } else {
        "Interrupted: the scheduler did not confirm that the job was cancelled; it will be when it notices that this program has gone."
    });
    signal.exit_code()
}

/// Whether the scheduler knows that the job is not wanted any more.
async fn cancel(job: &Job) -> bool {
    matches!(
        tokio::time::timeout(CANCEL_GRACE, job.cancel()).await,
        Ok(Ok(()))
    )
}
