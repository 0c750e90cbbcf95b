//! The one thing the program does: submit a job, follow it, say how it ended.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use ocluster_api::JobSpec;
use ocluster_cli::{
    Backoff, ExitCode, Failure, Interrupt, OutputMode, Signal, connect, hang_up, ocaml_string,
    output,
};
use ocluster_vat::{Connection, DialOptions, Digest, RpcError, Stats, SturdyRef, Vat};
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

/// How often in a row a connection may be lost before the scheduler has answered the submission. It may be the submission that ends it.
const MAX_UNANSWERED: u32 = 3;

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

/// Submits the job and follows it to its end. While it waits for a worker it is nowhere but in the scheduler's queue, so a connection
/// that is lost then is made anew and the job submitted again, as OCurrent does; once a worker has it, the loss is final.
async fn submit(
    args: &JobArgs,
    spec: &JobSpec,
    vat: &Vat,
    cap: &SturdyRef,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    let options = DialOptions::default();
    let mut client = tokio::select! {
        connection = connect(vat, cap, &options) => Client::over(connection?, cap),
        signal = interrupt.wait() => return Ok(signal.exit_code()),
    };
    if args.output == OutputMode::Human {
        output::line("Tailing log:")?;
    }
    // Whether a peer without a key is a scheduler at all shows in its first answer.
    let proven = cap.address.digest != Digest::Insecure;
    let mut unanswered = 0;
    loop {
        let may_be_unanswered = proven && unanswered < MAX_UNANSWERED;
        let job = client
            .submit(&args.pool, spec, args.urgent)
            .map_err(|error| Failure::failed(format!("the job cannot be sent: {error}")))?;
        let followed = tokio::select! {
            followed = follow(&job, client.connection(), args.output, may_be_unanswered) => followed?,
            signal = interrupt.wait() => return Ok(cancelled(&job, signal).await),
        };
        client = match followed {
            Followed::Ended(code) => return Ok(code),
            Followed::LostInQueue { error, answered } => {
                unanswered = if answered { 0 } else { unanswered + 1 };
                tokio::select! {
                    connection = reconnect(vat, cap, &options, error.to_string()) => Client::over(connection, cap),
                    signal = interrupt.wait() => return Ok(signal.exit_code()),
                }
            }
        };
    }
}

/// Connects again, however long that takes.
async fn reconnect(vat: &Vat, cap: &SturdyRef, options: &DialOptions, lost: String) -> Connection {
    let mut backoff = Backoff::new();
    let mut reason = lost;
    loop {
        let wait = backoff.after(Duration::ZERO);
        output::complain(format!(
            "Lost connection to scheduler ({reason}) while the job was queued. Will submit it again in {:.1}s…",
            wait.as_secs_f64()
        ));
        tokio::time::sleep(wait).await;
        match connect(vat, cap, options).await {
            Ok(connection) => return connection,
            Err(error) => reason = error.to_string(),
        }
    }
}

/// How following a job ended, if nothing failed.
enum Followed {
    /// The job has ended.
    Ended(ExitCode),
    /// The connection was lost while the job was in the scheduler's queue, or on its way there.
    LostInQueue {
        error: RpcError,
        /// Whether the scheduler had answered the submission.
        answered: bool,
    },
}

/// How far a job is known to have come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sent,
    Queued,
    Taken,
}

async fn follow(
    job: &Job,
    connection: &Connection,
    mode: OutputMode,
    may_be_unanswered: bool,
) -> Result<Followed, Failure> {
    let stage = Cell::new(Stage::Sent);
    let can_be_sent_again = async || {
        let in_queue = match stage.get() {
            Stage::Sent => may_be_unanswered,
            Stage::Queued => true,
            Stage::Taken => false,
        };
        // If the connection holds, it was a worker that was lost.
        in_queue && is_lost(connection).await
    };
    let tail = async {
        match mode {
            OutputMode::Human => tail(job, &mut tokio::io::stdout(), mode, can_be_sent_again).await,
            OutputMode::Json => tail(job, &mut tokio::io::stderr(), mode, can_be_sent_again).await,
        }
    };
    let lost = tokio::select! {
        // The end of the log comes first: what is learned of the job together with it comes too late.
        biased;
        lost = tail => lost?,
        never = watch_stage(job, &stage) => match never {},
    };
    if let Some(error) = lost {
        let answered = stage.get() != Stage::Sent;
        return Ok(Followed::LostInQueue { error, answered });
    }
    let result = job.result().await;
    let code = if result.is_ok() {
        ExitCode::Success
    } else {
        ExitCode::Failed
    };
    print_result(result, mode)?;
    Ok(Followed::Ended(code))
}

/// Whether the connection is lost, which shows in its calls a little earlier than in itself.
async fn is_lost(connection: &Connection) -> bool {
    tokio::time::timeout(RESULT_GRACE, connection.closed())
        .await
        .is_ok()
}

/// Takes note of how far the job has come, as long as it is polled.
async fn watch_stage(job: &Job, stage: &Cell<Stage>) -> Infallible {
    if job.accepted().await.is_ok() {
        stage.set(Stage::Queued);
        if job.started().await.is_ok() {
            stage.set(Stage::Taken);
        }
    }
    std::future::pending().await
}

/// Writes the log. If nobody reads it any more, nobody wants the job. Gives the loss of the connection if that can be mended.
async fn tail(
    job: &Job,
    writer: &mut (impl AsyncWrite + Unpin),
    mode: OutputMode,
    can_be_sent_again: impl AsyncFnOnce() -> bool,
) -> Result<Option<RpcError>, Failure> {
    match job.follow_into(writer).await {
        Ok(_) => Ok(None),
        Err(FollowError::Write(error)) => {
            cancel(job).await;
            Err(error.into())
        }
        Err(FollowError::Log(error)) => {
            if error.is_disconnected() && can_be_sent_again().await {
                return Ok(Some(error));
            }
            drop(tokio::time::timeout(RESULT_GRACE, job.result()).await);
            let hint = match error {
                RpcError::Unimplemented(_) => ". Is this capability a client's?",
                _ => "",
            };
            let failure = Failure::failed(format!("Error tailing logs: {error}{hint}"));
            if mode == OutputMode::Json {
                print_result(Err(error), mode)?;
            }
            Err(failure)
        }
    }
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
