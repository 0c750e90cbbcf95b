//! `log`: a job's log from somewhere to its present end, or to its last one.

use std::io;

use futures::StreamExt as _;
use jiff::Timestamp;
use ocluster_cli::jobs::{JobInfo, JsonJob, printable};
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, output};
use ocluster_vat::RpcError;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::tail_start::tail_start;
use super::visit::{refused, visit};
use crate::cli::access::Access;
use crate::cli::durable::{Followed, follow_log};
use crate::cli::job_args::Log;
use crate::cli::kept_job::KeptJob;

/// Prints the log.
pub(crate) async fn log(args: &Log, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    visit(&args.cap, interrupt, async |access| match args.output {
        OutputMode::Human => print(args, access, &mut tokio::io::stdout()).await,
        OutputMode::Json => print(args, access, &mut tokio::io::stderr()).await,
    })
    .await
}

async fn print(
    args: &Log,
    access: &Access<'_>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<ExitCode, Failure> {
    let job = access.client().find(&args.job).await.map_err(refused)?;
    let job = KeptJob::new(access, job);
    let info = job.persist(async |job| job.info().await).await;
    let info = info.map_err(refused)?;
    let mut start = args.since.map_or(0, |since| since_start(&info, since));
    if let Some(lines) = args.tail {
        let tail = job.persist(async |job| tail_start(job, start, info.log_length, lines).await);
        start = tail.await.map_err(refused)?;
    }
    let followed = if args.follow {
        follow_log(&job, start, writer).await
    } else {
        copy(&job, start, info.log_length, writer).await
    };
    match followed {
        Followed::ToTheEnd => {}
        Followed::Broken(error) => {
            return Err(Failure::failed(format!("Error tailing logs: {error}")));
        }
        Followed::NotWritten(error) => return Err(error.into()),
    }
    if args.follow {
        return ended(&job, args.output).await;
    }
    match args.output {
        OutputMode::Json => output::json(JsonJob::from(&info))?,
        OutputMode::Human if info.log_length == 0 => output::complain(format!(
            "Job {} has printed nothing: it {}.",
            printable(&info.id),
            printable(info.state.verb())
        )),
        OutputMode::Human => {}
    }
    Ok(ExitCode::Success)
}

/// Says how a job ended whose log has been followed.
async fn ended(job: &KeptJob<'_>, mode: OutputMode) -> Result<ExitCode, Failure> {
    let info = job.ended().await.map_err(refused)?;
    match mode {
        OutputMode::Json => output::json(JsonJob::from(&info))?,
        OutputMode::Human => {
            let reason = info
                .reason()
                .map_or_else(String::new, |reason| format!(": {}", printable(reason)));
            output::complain(format!(
                "Job {} {}{reason}",
                printable(&info.id),
                printable(info.state.verb())
            ));
        }
    }
    Ok(if info.has_passed() {
        ExitCode::Success
    } else {
        ExitCode::Failed
    })
}

/// Writes the bytes from `start` up to `end`, which are all there.
async fn copy(
    job: &KeptJob<'_>,
    start: u64,
    end: u64,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Followed {
    let mut at = start;
    while at < end {
        let mut log = std::pin::pin!(job.now().log(at));
        let lost = loop {
            if at >= end {
                return Followed::ToTheEnd;
            }
            match log.next().await {
                None => return Followed::ToTheEnd,
                Some(Err(error)) => break error,
                Some(Ok(piece)) => {
                    let left = usize::try_from(end - at).unwrap_or(usize::MAX);
                    let wanted = piece.get(..left).unwrap_or(&piece);
                    if let Err(error) = write(writer, wanted).await {
                        return Followed::NotWritten(error);
                    }
                    at += wanted.len() as u64;
                }
            }
        };
        if let Err(error) = recover(job, lost, at).await {
            return Followed::Broken(error);
        }
    }
    Followed::ToTheEnd
}

async fn recover(job: &KeptJob<'_>, lost: RpcError, at: u64) -> Result<(), RpcError> {
    job.recover(lost, || {
        format!("Reconnected; the log goes on at byte {at}.")
    })
    .await
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
    writer.write_all(piece).await?;
    writer.flush().await
}

/// Where the first attempt begins that had not ended by `since`; the end of the log if there is none.
fn since_start(job: &JobInfo, since: Timestamp) -> u64 {
    let since = u64::try_from(since.as_millisecond()).unwrap_or(0);
    let ended_before = |time: Option<u64>| time.is_some_and(|time| time < since);
    let earlier = job
        .attempts
        .iter()
        .filter(|attempt| attempt.number < job.attempt)
        .find(|attempt| !ended_before(attempt.ended_at));
    match earlier {
        // What the scheduler had to say before the first attempt belongs to it.
        Some(attempt) if attempt.number <= 1 => 0,
        Some(attempt) => attempt.log_start,
        None if ended_before(job.ended_at) => job.log_length,
        None if job.attempt <= 1 => 0,
        None => job.log_start,
    }
}
