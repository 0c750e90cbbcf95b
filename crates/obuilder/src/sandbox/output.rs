//! Carries what a step prints to its log: a piece at a time, no faster than the log takes it. Memory holds one piece.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use super::leash::Leash;
use crate::StepLog;

/// The most that is read at once.
const PIECE: usize = 64 * 1024;

/// How much of the output is kept aside, for errors: what a runtime says when it cannot start a step, with a path or
/// two of the longest, and the reason at the end.
const KEPT: usize = 16 * 1024;

/// How long the pipe's end is waited for after all processes of the step have ended. Only a stranger can hold it open then.
const AFTER_THE_END: Duration = Duration::from_secs(5);

/// What was printed, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Printed {
    /// How it began.
    pub(super) beginning: Vec<u8>,
    /// Whether it was more than allowed. What was allowed is in the log.
    pub(super) too_much: bool,
    /// Why the log could not be written to the end.
    pub(super) failed: Option<io::Error>,
}

/// The reading end of a step's output.
pub(super) struct Output {
    pipe: Receiver,
    /// Bytes that may still be printed.
    left: Option<u64>,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd, limit: Option<u64>) -> io::Result<Self> {
        Ok(Self {
            pipe: Receiver::from_owned_fd(pipe)?,
            left: limit,
        })
    }

    /// Copies everything to `log` until the end. Pulls `leash` when it is too much or the log fails, and passes over the rest. `over`
    /// says that all processes of the step have ended.
    pub(super) async fn carry(
        mut self,
        log: &StepLog,
        leash: &Leash,
        over: &CancellationToken,
    ) -> Printed {
        let mut printed = Printed::default();
        let mut buffer = BytesMut::new();
        loop {
            if buffer.capacity() < PIECE / 4 {
                buffer.reserve(PIECE);
            }
            match self.read(&mut buffer, over).await {
                Ok(0) => return printed,
                Ok(_) => (),
                Err(error) => {
                    leash.pull();
                    printed.failed.get_or_insert(error);
                    return printed;
                }
            }
            if printed.too_much || printed.failed.is_some() {
                buffer.clear();
                continue;
            }
            let mut piece = buffer.split();
            if let Some(left) = &mut self.left {
                let length = piece.len() as u64;
                if length > *left {
                    printed.too_much = true;
                    leash.pull();
                    piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                }
                *left = left.saturating_sub(length);
            }
            if piece.is_empty() {
                continue;
            }
            let room = KEPT.saturating_sub(printed.beginning.len());
            printed.beginning.extend(piece.iter().take(room));
            if let Err(error) = log.write(piece.freeze()).await {
                leash.pull();
                printed.failed = Some(error);
            }
        }
    }

    async fn read(&mut self, buffer: &mut BytesMut, over: &CancellationToken) -> io::Result<usize> {
        if !over.is_cancelled() {
            tokio::select! {
                read = self.pipe.read_buf(buffer) => return read,
                () = over.cancelled() => (),
            }
        }
        tokio::time::timeout(AFTER_THE_END, self.pipe.read_buf(buffer))
            .await
            .unwrap_or(Ok(0))
    }
}
