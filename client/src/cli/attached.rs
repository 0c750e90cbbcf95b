//! Attached jobs: one lives as long as the program. Whatever ends that early, a signal or the reader of its output going away,
//! cancels the job.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use ocluster_api::JobSpec;
use ocluster_cli::{Backoff, ExitCode, Failure, Interrupt, OutputMode, Signal, connect, output};
use ocluster_vat::{Connection, DialOptions, Digest, RpcError, SturdyRef, Vat};
use tokio::io::AsyncWrite;

use super::args::JobArgs;
use super::result::{log_failure, print_result};
use crate::{Client, FollowError, Job};

/// How long a program that was asked to end waits for the scheduler to confirm the cancellation.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long the result is waited for after the log broke off. A scheduler that cannot serve the log cannot give a result either;
/// hearing so before hanging up spares OCluster's own scheduler a race between its answer and our leaving.
const RESULT_GRACE: Duration = Duration::from_secs(1);
/// How often in a row a connection may be lost before the scheduler has answered the submission. It may be the submission that ends it.
const MAX_UNANSWERED: u32 = 3;

/// Submits the job over this connection and follows it to its end. While it waits for a worker it is nowhere but in the scheduler's queue, so a connection
/// that is lost then is made anew and the job submitted again, as OCurrent does; once a worker has it, the loss is final.
pub(crate) async fn run(
    args: &JobArgs,
    spec: &JobSpec,
    vat: &Vat,
    cap: &SturdyRef,
    mut client: Client,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    let options = DialOptions::default();
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
    let code = print_result(None, job.result().await, mode)?;
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
            Err(log_failure(None, error, mode)?)
        }
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
