//! Following a durable job: its log, byte by byte through whatever happens to the connection, and then its result.

use std::io;

use futures::StreamExt as _;
use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::RpcError;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::interrupted::Named;
use super::waiting::Waiting;
use crate::cli::kept_job::KeptJob;
use crate::cli::result::{log_failure, print_result};

/// How following a log ended.
pub(crate) enum Followed {
    /// With its end.
    ToTheEnd,
    /// It cannot be read any further.
    Broken(RpcError),
    /// It cannot be written any further.
    NotWritten(io::Error),
}

/// Follows the job to its end, and says how it ended. Nobody reading any more does nothing to the job.
pub(super) async fn follow(
    job: &KeptJob<'_>,
    named: &Named<'_>,
    mode: OutputMode,
) -> Result<ExitCode, Failure> {
    let followed = match mode {
        OutputMode::Human => follow_log(job, 0, &mut tokio::io::stdout()).await,
        OutputMode::Json => follow_log(job, 0, &mut tokio::io::stderr()).await,
    };
    match followed {
        Followed::ToTheEnd => {}
        Followed::Broken(error) => return Err(log_failure(Some(named.id), error, mode)?),
        Followed::NotWritten(error) => {
            output::complain(named.goes_on());
            return Err(error.into());
        }
    }
    print_result(Some(named.id), job.result().await, mode)
}

/// Writes the job's log from byte `start` on to `writer`, each byte once, flushing after each piece, however often the connection is
/// lost meanwhile.
pub(crate) async fn follow_log(
    job: &KeptJob<'_>,
    start: u64,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Followed {
    let mut at = start;
    let mut waiting = Waiting::new();
    loop {
        let mut log = std::pin::pin!(job.now().log(at));
        let lost = loop {
            let piece = tokio::select! {
                biased;
                piece = log.next() => piece,
                never = waiting.tell(job) => match never {},
            };
            waiting.is_over();
            match piece {
                None => return Followed::ToTheEnd,
                Some(Err(error)) => break error,
                Some(Ok(piece)) => {
                    if let Err(error) = write(writer, &piece).await {
                        return Followed::NotWritten(error);
                    }
                    at += piece.len() as u64;
                }
            }
        };
        let told = || format!("Reconnected; the log goes on at byte {at}.");
        if let Err(error) = job.recover(lost, told).await {
            return Followed::Broken(error);
        }
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
    writer.write_all(piece).await?;
    writer.flush().await
}
