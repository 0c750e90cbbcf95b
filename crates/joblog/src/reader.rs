//! The reading end of a log: long poll from any place, at the reader's own pace.
//!
//! A reader holds no bytes. It never keeps a writer waiting and never reads a disk on its caller's thread.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::content::Content;
use crate::live::{CHUNK, Log, Look};
use crate::{End, ReadError};

/// Some bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes. Empty: the log is complete and all of it was read.
    pub data: Bytes,
    /// Where to read next.
    pub next: u64,
}

/// The reading end of one log. Clones read independently.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<Log>,
    /// Whether it gives only what is on disk.
    stored: bool,
}

impl LogReader {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        log.add_reader();
        Self { log, stored: false }
    }

    /// The same log, of which only those bytes are given that a crash of the process cannot take back. They come a little later than to
    /// other readers: see [`LogConfig::linger`](crate::LogConfig::linger).
    #[must_use]
    pub fn of_what_is_stored(mut self) -> Self {
        self.stored = true;
        self
    }

    /// The log's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.log.id
    }

    /// Bytes there are now.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.log.state().length
    }

    /// How the log ended, if it has. There may be bytes which this reader has not read yet.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.log.state().end.clone()
    }

    /// Waits for the log's end. Dropping the future loses nothing.
    pub async fn ended(&self) -> End {
        loop {
            let mut changed = pin!(self.log.changed.notified());
            changed.as_mut().enable();
            if let Some(end) = self.end() {
                return end;
            }
            changed.await;
        }
    }

    /// Reads from byte `start`, at most `max` bytes (brought into 1..=131072). A negative `start` counts from the
    /// present end, and from the beginning at most. Waits until there is a byte or the end; an empty chunk is the end
    /// of a complete log. These are the rules of `Job.log` in OCluster's protocol.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ReadError::PastEnd`] when `start` is past the present end; [`ReadError::Broken`] after the last stored byte of
    /// a log that stopped before its end; [`ReadError::Io`] when the disk says no.
    pub async fn read(&self, start: i64, max: usize) -> Result<Chunk, ReadError> {
        let max = max.clamp(1, CHUNK);
        let start = match u64::try_from(start) {
            Ok(start) => start,
            Err(_) => self.length().saturating_sub(start.unsigned_abs()),
        };
        loop {
            let mut changed = pin!(self.log.changed.notified());
            changed.as_mut().enable();
            let data = match self.log.look(start, max, self.stored) {
                Look::Memory(data) => data,
                Look::Disk(content, length) => self.read_disk(content, start, length).await?,
                Look::Closed => Bytes::new(),
                Look::Broken(reason) => return Err(ReadError::Broken { reason }),
                Look::PastEnd(length) => return Err(ReadError::PastEnd { start, length }),
                Look::Wait => {
                    changed.await;
                    continue;
                }
            };
            let next = start + data.len() as u64;
            return Ok(Chunk { data, next });
        }
    }

    async fn read_disk(
        &self,
        content: Content,
        start: u64,
        length: usize,
    ) -> Result<Bytes, ReadError> {
        let id = self.log.id;
        let io_error = |why: String| ReadError::Io { id, why };
        // A slow disk with many readers must not take every thread of the runtime's pool.
        let permit = self.log.shared.reads.acquire().await;
        let shared = &self.log.shared;
        let read = shared.blocking(move || content.read(start, length)).await;
        drop(permit);
        let data = read
            .map_err(|error| io_error(error.to_string()))?
            .map_err(|error| io_error(error.to_string()))?;
        Ok(data.into())
    }
}

impl Clone for LogReader {
    fn clone(&self) -> Self {
        let mut clone = Self::new(Arc::clone(&self.log));
        clone.stored = self.stored;
        clone
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.log.drop_reader();
    }
}
