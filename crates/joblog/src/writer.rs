//! The writing end of a log: appends, waits when the disk is behind, and says how the log ended.
//!
//! There is one per log. It never does I/O and never holds more than the bounds of [`LogConfig`](crate::LogConfig).

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError, oneshot};

use crate::live::{CHUNK, Log, charge};
use crate::store::Guard;
use crate::{End, LogInfo, LogReader, WriteError, file};

/// What became of appended bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// They are part of the log.
    Stored,
    /// The log is at its size limit; at least some of these bytes were counted and dropped.
    Truncated,
}

/// The writing end of one log.
///
/// Dropped without [`finish`](Self::finish), it leaves an unfinished log, as a crash would: readers get its bytes and
/// then [`ReadError::Broken`](crate::ReadError::Broken), and it can be resumed.
#[derive(Debug)]
pub struct LogWriter {
    log: Arc<Log>,
    finished: bool,
    /// Keeps the disk's thread.
    _guard: Arc<Guard>,
}

impl LogWriter {
    pub(crate) fn new(log: Arc<Log>, guard: Arc<Guard>) -> Self {
        Self {
            log,
            finished: false,
            _guard: guard,
        }
    }

    /// The log's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.log.id
    }

    /// Bytes there are, on disk or not yet.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.log.state().length
    }

    /// Bytes there are of what was appended: without the line which says that the log passed its limit.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        let state = self.log.state();
        state.length - state.noted as u64
    }

    /// Whether the disk has refused it: then nothing more can be appended.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.log.state().failed.is_some()
    }

    /// A reader of this log.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.log))
    }

    /// Appends, and waits while too many bytes are not written yet. Readers see the bytes at once.
    ///
    /// If the future is dropped, some of the bytes may have been appended: those of whole pieces of 128 KiB, in order.
    ///
    /// # Errors
    /// The disk's error, once the log is broken by it. Later calls give the same.
    pub async fn append(&mut self, bytes: Bytes) -> Result<Appended, WriteError> {
        let (mut stored, dropped) = self.split(bytes);
        while !stored.is_empty() {
            let piece = stored.split_to(stored.len().min(CHUNK));
            self.reserve(charge(piece.len())).await?;
            self.log.push(piece)?;
        }
        self.drop_past_limit(dropped).await
    }

    /// Appends if nothing has to be waited for. `None`: nothing was appended; use [`append`](Self::append), always so
    /// for more than 128 KiB at once.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn try_append(&mut self, bytes: &Bytes) -> Result<Option<Appended>, WriteError> {
        let (stored, dropped) = self.split(bytes.clone());
        if dropped.is_some() || stored.len() > CHUNK {
            return Ok(None);
        }
        if stored.is_empty() {
            return self.check().map(|()| Some(Appended::Stored));
        }
        let amount = permits(charge(stored.len()));
        let own = self.log.budget.try_acquire_many(amount);
        let all = self.log.shared.budget.try_acquire_many(amount);
        match (own, all) {
            (Ok(own), Ok(all)) => {
                own.forget();
                all.forget();
                self.log.push(stored)?;
                Ok(Some(Appended::Stored))
            }
            (Err(TryAcquireError::Closed), _) | (_, Err(TryAcquireError::Closed)) => {
                Err(WriteError::Closed)
            }
            _ => {
                self.log.shared.disk.hurry();
                Ok(None)
            }
        }
    }

    /// Ends the log. Readers see the end at once; the future ends when it is recorded on disk and need not be awaited. It
    /// gives the log's digest, too, which nobody else is told.
    ///
    /// The disk is made to hurry when the future is first polled; those for whom it may take its
    /// [time](crate::LogConfig::linger) use [`finish_unhurried`](Self::finish_unhurried).
    ///
    /// # Errors
    /// The disk's error. The log is then broken.
    pub fn finish(
        self,
        end: End,
    ) -> impl Future<Output = Result<LogInfo, WriteError>> + Send + use<> {
        let shared = Arc::clone(&self.log.shared);
        let recorded = self.finish_unhurried(end);
        async move {
            shared.disk.hurry();
            recorded.await
        }
    }

    /// As [`finish`](Self::finish), for those whom nobody waits for: however they wait, the end is recorded together with whatever else
    /// gathers meanwhile, which is what makes many small logs cheap.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_unhurried(
        mut self,
        end: End,
    ) -> impl Future<Output = Result<LogInfo, WriteError>> + Send + use<> {
        self.finished = true;
        let (sender, receiver) = oneshot::channel();
        let mut state = self.log.state();
        let failed = state.failed.clone();
        let mut queued = true;
        if failed.is_none() {
            state.end = Some(end);
            state.finishing = true;
            state.recorded = Some(sender);
            queued = std::mem::replace(&mut state.queued, true);
        }
        drop(state);
        self.log.changed.notify_waiters();
        if !queued {
            self.log.shared.disk.push(Arc::clone(&self.log));
        }
        async move {
            if let Some(error) = failed {
                return Err(error);
            }
            receiver.await.unwrap_or(Err(WriteError::Closed))
        }
    }

    fn check(&self) -> Result<(), WriteError> {
        match &self.log.state().failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// What of `bytes` fits under the limit, and how many bytes do not (`None`: all fit).
    fn split(&self, mut bytes: Bytes) -> (Bytes, Option<u64>) {
        let limit = self.log.limit;
        if limit == 0 {
            return (bytes, None);
        }
        let state = self.log.state();
        let room = limit.saturating_sub(state.length);
        if bytes.len() as u64 <= room {
            return (bytes, None);
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let dropped = (bytes.len() - room) as u64;
        bytes.truncate(room);
        (bytes, Some(dropped))
    }

    /// Counts dropped bytes, and writes the last line when they are the first.
    async fn drop_past_limit(&mut self, dropped: Option<u64>) -> Result<Appended, WriteError> {
        self.check()?;
        let Some(dropped) = dropped else {
            return Ok(Appended::Stored);
        };
        let mut note = Bytes::from(file::limit_note(self.log.limit));
        // A resumed log may end within the note.
        let noted = self.log.state().noted.min(note.len());
        let missing = note.split_off(noted);
        if !missing.is_empty() {
            self.reserve(charge(missing.len())).await?;
            self.log.state().noted = noted + missing.len();
            self.log.push(missing)?;
        }
        let mut state = self.log.state();
        // A resumed log's header may claim any number.
        state.dropped = state.dropped.saturating_add(dropped);
        Ok(Appended::Truncated)
    }

    /// Takes from both budgets, for `push`.
    async fn reserve(&self, charge: usize) -> Result<(), WriteError> {
        let own = self.acquire(&self.log.budget, charge).await?;
        let all = self.acquire(&self.log.shared.budget, charge).await?;
        own.forget();
        all.forget();
        Ok(())
    }

    async fn acquire<'a>(
        &self,
        budget: &'a Semaphore,
        charge: usize,
    ) -> Result<SemaphorePermit<'a>, WriteError> {
        let amount = permits(charge);
        if let Ok(permit) = budget.try_acquire_many(amount) {
            return Ok(permit);
        }
        self.log.shared.disk.hurry();
        let closed = |_: AcquireError| WriteError::Closed;
        budget.acquire_many(amount).await.map_err(closed)
    }
}

fn permits(charge: usize) -> u32 {
    // A piece is at most a chunk, far below.
    u32::try_from(charge).unwrap_or(u32::MAX)
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut state = self.log.state();
        state.live = false;
        if state.end.is_none() {
            state.end = Some(End::Broken {
                reason: file::UNFINISHED.to_owned(),
            });
        }
        drop(state);
        self.log.changed.notify_waiters();
    }
}
