//! One submitted job: its log, its result, and how to cancel it.
//!
//! The scheduler cancels a job that nobody refers to any more, so a [`Job`] must be kept for as long as the job is wanted.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use ocluster_api::cluster_capnp::{job, ticket};
use ocluster_vat::RpcError;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::log;

/// A submitted job. Dropping it cancels the job, unless it has ended.
pub struct Job {
    ticket: ticket::Client,
    job: job::Client,
}

/// Why a log could not be followed to its end.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The log could not be read: the job was refused or cancelled before it ran, or its worker or the scheduler was lost.
    #[error(transparent)]
    Log(#[from] RpcError),
    /// The log could not be written to where it should go.
    #[error("cannot write the log: {0}")]
    Write(#[source] io::Error),
}

impl Job {
    pub(crate) fn of_ticket(ticket: ticket::Client) -> Self {
        // Pipelined: the scheduler gets this together with the submission.
        let job = ticket.job_request().send().pipeline.get_job();
        Self { ticket, job }
    }

    /// Waits until the scheduler has the job. Cancelling the wait does nothing to the job.
    ///
    /// # Errors
    /// When it does not: the job was refused, or the connection was lost.
    pub async fn accepted(&self) -> Result<(), RpcError> {
        self.ticket.job_request().send().promise.await?;
        Ok(())
    }

    /// Waits until a worker has taken the job. Cancelling the wait does nothing to the job.
    ///
    /// # Errors
    /// When no worker ever will: the job was refused or cancelled, or the connection was lost.
    pub async fn started(&self) -> Result<(), RpcError> {
        let response = self.ticket.job_request().send().promise.await?;
        let job = response.get()?.get_job()?;
        ocluster_vat::settled(&job.client).await?;
        // A lost connection settles the promise, too: only a job that answers has been taken.
        ocluster_vat::ping(&job.client).await
    }

    /// The log from byte `start` on, in the pieces in which the scheduler sends it; negative counts from the present end. The
    /// stream waits for the job to start and to say something, and ends with the log. At most one piece is held in memory.
    pub fn log(&self, start: i64) -> impl Stream<Item = Result<Bytes, RpcError>> + use<> {
        log::log(self.job.clone(), start)
    }

    /// Writes the whole log to `writer` as it comes, flushing after each piece, and returns its length in bytes.
    ///
    /// # Errors
    /// When the log cannot be read to its end, or cannot be written. What came before has then been written.
    pub async fn follow_into(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, FollowError> {
        let mut log = std::pin::pin!(self.log(0));
        let mut length = 0;
        while let Some(piece) = log.next().await {
            let piece = piece?;
            writer.write_all(&piece).await.map_err(FollowError::Write)?;
            writer.flush().await.map_err(FollowError::Write)?;
            length += piece.len() as u64;
        }
        Ok(length)
    }

    /// Waits for the job to end. The output is empty, unless the job made something that has a name (a pushed image).
    ///
    /// # Errors
    /// When the job failed or was cancelled, or was lost with its worker or the scheduler.
    pub async fn result(&self) -> Result<String, RpcError> {
        log::result(&self.job).await
    }

    /// Cancels the job, be it queued or running, and returns when that has begun. Cancelling a job that has ended does nothing.
    ///
    /// # Errors
    /// When it was cancelled before while queued, or the connection was lost.
    pub async fn cancel(&self) -> Result<(), RpcError> {
        self.ticket.cancel_request().send().promise.await?;
        Ok(())
    }
}
