//! One log in memory: what its writer, its readers and the disk's thread share.
//!
//! A log is in memory while it is written or read, and no longer. Only bytes that are not on disk yet are held here,
//! and a short tail of written ones while somebody follows, so that followers do not go through the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::content::Content;
use crate::resumption::Resumed;
use crate::store::Shared;
use crate::{End, LogInfo, WriteError};

/// The most bytes appended, written or read in one piece.
pub(crate) const CHUNK: usize = 128 << 10;
/// Written bytes kept in memory for those who may come to follow.
const KEPT_FOR_FOLLOWERS: u64 = 32 << 10;
/// Written bytes kept while somebody reads that close to the end: enough for the next piece, and one that is written meanwhile.
const KEPT_FOR_READERS: u64 = 2 * CHUNK as u64;
/// What the smallest piece costs of the budgets: about what it costs in memory.
const LEAST_CHARGE: usize = 64;

/// What a piece of this length takes from the budgets while it is not written.
pub(crate) fn charge(length: usize) -> usize {
    length.max(LEAST_CHARGE)
}

/// A log in memory. See the module's text.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: u64,
    pub(crate) shared: Arc<Shared>,
    /// The longest it may grow; 0 for any length.
    pub(crate) limit: u64,
    state: Mutex<State>,
    /// Readers wait here for more or for the end.
    pub(crate) changed: Notify,
    /// Bytes which may still be appended before the disk has to catch up.
    pub(crate) budget: Semaphore,
    /// Of what is written. The disk's thread alone uses it.
    digest: Mutex<Sha256>,
    readers: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct State {
    /// The last bytes, in pieces with their places. Every byte from `written` on is here.
    pub(crate) tail: VecDeque<(u64, Bytes)>,
    /// Bytes on disk.
    pub(crate) written: u64,
    /// Bytes there are.
    pub(crate) length: u64,
    /// How far anybody has read.
    pub(crate) read_to: u64,
    /// Bytes dropped past the limit.
    pub(crate) dropped: u64,
    /// Bytes of the line about the limit that are there; more than none once the limit was passed.
    pub(crate) noted: usize,
    /// How it ended, for readers.
    pub(crate) end: Option<End>,
    /// Whether the end is to be recorded on disk. An abandoned log's is not.
    pub(crate) finishing: bool,
    /// A writer has it.
    pub(crate) live: bool,
    /// It is in the disk's queue.
    pub(crate) queued: bool,
    /// The first error of the disk. Nothing is written after it.
    pub(crate) failed: Option<WriteError>,
    /// Where the bytes are that are on disk.
    pub(crate) content: Option<Content>,
    /// Who waits for the end to be recorded.
    pub(crate) recorded: Option<oneshot::Sender<Result<LogInfo, WriteError>>>,
}

/// What the bytes that are on disk already mean for what follows.
pub(crate) struct Stored {
    /// Their digest.
    pub(crate) digest: Sha256,
    /// How much of the line about the limit they end with.
    pub(crate) noted: usize,
}

/// What a reader finds at a place of the log.
#[derive(Debug)]
pub(crate) enum Look {
    /// These bytes, from memory.
    Memory(Bytes),
    /// So many bytes, on disk.
    Disk(Content, usize),
    /// The end.
    Closed,
    /// The end, for this reason.
    Broken(String),
    /// The place is past the end.
    PastEnd(u64),
    /// Nothing yet.
    Wait,
}

impl Log {
    /// A log that will be written from its beginning on.
    pub(crate) fn for_writing(shared: Arc<Shared>, info: &LogInfo, limit: u64) -> Arc<Self> {
        let log = Self::new(shared, info, limit, None);
        log.state().live = true;
        Arc::new(log)
    }

    /// A log that will be written from where it was cut.
    pub(crate) fn for_resuming(shared: Arc<Shared>, limit: u64, resumed: Resumed) -> Arc<Self> {
        let content = Content::Own(resumed.file);
        let mut log = Self::new(shared, &resumed.info, limit, Some(content));
        log.digest = Mutex::new(resumed.stored.digest);
        let mut state = log.state();
        state.live = true;
        state.noted = resumed.stored.noted;
        drop(state);
        Arc::new(log)
    }

    /// A log that is on disk and that nobody writes.
    pub(crate) fn for_reading(shared: Arc<Shared>, info: &LogInfo, content: Content) -> Arc<Self> {
        let log = Self::new(shared, info, 0, Some(content));
        log.state().end = Some(info.end.clone().unwrap_or_else(|| End::Broken {
            reason: crate::file::UNFINISHED.to_owned(),
        }));
        Arc::new(log)
    }

    fn new(shared: Arc<Shared>, info: &LogInfo, limit: u64, content: Option<Content>) -> Self {
        let budget = shared.config.max_waiting_per_log.max(CHUNK);
        Self {
            id: info.id,
            shared,
            limit,
            state: Mutex::new(State {
                tail: VecDeque::new(),
                written: info.length,
                length: info.length,
                read_to: 0,
                dropped: info.dropped,
                noted: 0,
                end: None,
                finishing: false,
                live: false,
                queued: false,
                failed: None,
                content,
                recorded: None,
            }),
            changed: Notify::new(),
            budget: Semaphore::new(budget.min(Semaphore::MAX_PERMITS)),
            digest: Mutex::default(),
            readers: AtomicUsize::new(0),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock: it is held for moves and counts only.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of what is written, after these bytes more of it.
    pub(crate) fn digest(&self, pieces: &[Bytes]) -> Sha256 {
        // A half-updated digest cannot be: nothing panics while it is updated.
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in pieces {
            digest.update(piece);
        }
        digest.clone()
    }

    pub(crate) fn add_reader(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn drop_reader(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Adds a piece whose charge was taken from both budgets.
    pub(crate) fn push(self: &Arc<Self>, piece: Bytes) -> Result<(), WriteError> {
        let mut state = self.state();
        if let Some(error) = &state.failed {
            let error = error.clone();
            drop(state);
            self.release(charge(piece.len()));
            return Err(error);
        }
        let place = state.length;
        state.length += piece.len() as u64;
        state.tail.push_back((place, piece));
        let behind = state.length - state.written;
        let queued = std::mem::replace(&mut state.queued, true);
        drop(state);
        self.changed.notify_waiters();
        if !queued {
            self.shared.disk.push(Arc::clone(self));
        }
        if behind >= CHUNK as u64 / 2 {
            self.shared.disk.hurry();
        }
        Ok(())
    }

    /// Gives a charge back to both budgets.
    pub(crate) fn release(&self, charge: usize) {
        self.budget.add_permits(charge);
        self.shared.budget.add_permits(charge);
    }

    /// What is at `start`, at most `max` bytes of it; if `stored`, of what is on disk.
    pub(crate) fn look(&self, start: u64, max: usize, stored: bool) -> Look {
        let mut state = self.state();
        if start >= state.length {
            return match &state.end {
                Some(End::Broken { reason }) => Look::Broken(reason.clone()),
                _ if start > state.length => Look::PastEnd(state.length),
                Some(End::Closed) => Look::Closed,
                None => Look::Wait,
            };
        }
        let readable = if stored { state.written } else { state.length };
        if start >= readable {
            return Look::Wait;
        }
        let max = usize::try_from(readable - start).map_or(max, |there| there.min(max));
        state.read_to = state.read_to.max(start + max as u64);
        let in_memory = state.tail.front().is_some_and(|(place, _)| *place <= start);
        if in_memory {
            return Look::Memory(gather(&state.tail, start, max));
        }
        let there = usize::try_from(state.written.saturating_sub(start)).unwrap_or(max);
        match &state.content {
            Some(content) => Look::Disk(content.clone(), there.min(max)),
            // Cannot happen: written bytes have a file. A wrong guess here must not end a reader's life.
            None => Look::Broken("the log's file is not open".to_owned()),
        }
    }

    /// What is known of it now.
    pub(crate) fn info(&self) -> LogInfo {
        let state = self.state();
        LogInfo {
            id: self.id,
            length: state.length,
            dropped: state.dropped,
            end: if state.finishing || !state.live {
                state.end.clone()
            } else {
                None
            },
            live: state.live,
            digest: None,
        }
    }
}

impl State {
    /// Lets go of written pieces, but for a short tail when somebody follows.
    pub(crate) fn trim(&mut self, followed: bool) {
        let behind = self.length.saturating_sub(self.read_to);
        let keep = if !followed {
            0
        } else if self.read_to > 0 && behind <= KEPT_FOR_READERS {
            KEPT_FOR_READERS
        } else {
            KEPT_FOR_FOLLOWERS
        };
        let floor = self.written.min(self.length.saturating_sub(keep));
        while let Some((place, piece)) = self.tail.front() {
            if place + piece.len() as u64 > floor {
                break;
            }
            self.tail.pop_front();
        }
        if self.tail.is_empty() {
            self.tail.shrink_to(16);
        }
    }
}

/// Bytes from `start`, which lies in the tail: as they lie if the piece is a good size, joined if pieces are small.
fn gather(tail: &VecDeque<(u64, Bytes)>, start: u64, max: usize) -> Bytes {
    const WORTH_SENDING: usize = 16 << 10;
    let first = tail
        .partition_point(|(place, _)| *place <= start)
        .saturating_sub(1);
    let mut pieces = tail.range(first..).map(|(place, piece)| {
        let skip = usize::try_from(start.saturating_sub(*place)).unwrap_or(0);
        piece.slice(skip.min(piece.len())..)
    });
    let mut one = pieces.next().unwrap_or_default();
    if one.len() >= max.min(WORTH_SENDING) || first + 1 == tail.len() {
        one.truncate(max);
        return one;
    }
    let mut joined = BytesMut::from(one.as_ref());
    for piece in pieces {
        let room = max - joined.len();
        if room == 0 {
            break;
        }
        joined.extend_from_slice(piece.get(..room).unwrap_or(&piece));
    }
    joined.freeze()
}

impl Log {
    pub(crate) fn is_followed(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }
}

/// The last one to hold a log takes it out of the store's table.
impl Drop for Log {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        // The place may already belong to a newer log of the same id.
        if table
            .get(&self.id)
            .is_some_and(|log| log.strong_count() == 0)
        {
            table.remove(&self.id);
        }
    }
}
