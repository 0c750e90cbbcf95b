//! The one thread that writes logs: many logs, few system calls.
//!
//! Logs with something to write stand in a queue. The thread lets them gather for a moment (nobody waits for it:
//! readers are served from memory), then writes each log's bytes in one piece. A log's first write also makes its file,
//! and its last one records the end, so that a tiny job costs one file, one write, one close. A log whose write fails
//! is broken, and the others go on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::Digest as _;
use tokio::sync::{Notify, watch};

use crate::live::{CHUNK, Log, charge};
use crate::{End, LogInfo, Pace, WriteError, file};

/// The most bytes of one log written before the next log has its turn.
const TURN: usize = 8 * CHUNK;
/// Bytes of a file's first page.
const PAGE: usize = 4096;

/// The queue in front of the thread.
#[derive(Debug)]
pub(crate) struct Disk {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// For a task in place of the thread.
    bell: Notify,
    pub(crate) stopped: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    logs: Vec<Arc<Log>>,
    /// Somebody waits: do not linger.
    hurry: bool,
    /// The thread waits for work, and not just for more of it.
    idle: bool,
    closing: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            bell: Notify::new(),
            stopped: watch::Sender::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a log that has something to write. After the thread has stopped, the log fails at once.
    pub(crate) fn push(&self, log: Arc<Log>) {
        let mut queue = self.queue();
        if *self.stopped.borrow() {
            drop(queue);
            fail(&log, &WriteError::Closed);
            // Whoever waits for its end hears that the store is closed.
            log.state().recorded = None;
            return;
        }
        queue.logs.push(log);
        let idle = std::mem::take(&mut queue.idle);
        drop(queue);
        if idle {
            self.ring();
        }
    }

    /// Wakes whoever writes.
    fn ring(&self) {
        self.wake.notify_one();
        self.bell.notify_one();
    }

    /// Asks for what is queued to be written now.
    pub(crate) fn hurry(&self) {
        let mut queue = self.queue();
        if !queue.logs.is_empty() && !std::mem::replace(&mut queue.hurry, true) {
            drop(queue);
            self.ring();
        }
    }

    /// Asks the thread to write what is queued and to stop.
    pub(crate) fn close(&self) {
        self.queue().closing = true;
        self.ring();
    }

    /// Waits for logs to write. `None`: stop.
    fn next(&self, linger: Duration) -> Option<Vec<Arc<Log>>> {
        let wait_error = PoisonError::into_inner;
        let mut queue = self.queue();
        while queue.logs.is_empty() {
            if queue.closing {
                // Under the queue's lock, so that no log is queued behind it.
                self.stopped.send_replace(true);
                return None;
            }
            queue.idle = true;
            queue = self.wake.wait(queue).unwrap_or_else(wait_error);
        }
        queue.idle = false;
        let until = Instant::now() + linger;
        while !queue.hurry && !queue.closing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
        queue.hurry = false;
        Some(std::mem::take(&mut queue.logs))
    }

    /// The thread's life.
    pub(crate) fn run(&self, linger: Duration) {
        let mut buffer = Vec::with_capacity(CHUNK);
        while let Some(logs) = self.next(linger) {
            write_each(logs, &mut buffer);
        }
    }

    /// The same as a task, which writes as fast as `pace` says. What it has not written when it is dropped is lost, as in a crash.
    pub(crate) async fn run_as_task(&self, linger: Duration, pace: Pace) {
        let mut buffer = Vec::with_capacity(CHUNK);
        while self.something_to_write().await {
            let gathered = tokio::time::sleep(linger);
            tokio::pin!(gathered);
            while !self.is_in_hurry() {
                tokio::select! {
                    biased;
                    () = &mut gathered => break,
                    () = self.bell.notified() => {}
                }
            }
            tokio::time::sleep(pace()).await;
            let mut queue = self.queue();
            queue.hurry = false;
            let logs = std::mem::take(&mut queue.logs);
            drop(queue);
            write_each(logs, &mut buffer);
        }
    }

    fn is_in_hurry(&self) -> bool {
        let queue = self.queue();
        queue.hurry || queue.closing
    }

    /// Waits for logs to write. False: stop.
    async fn something_to_write(&self) -> bool {
        loop {
            {
                let mut queue = self.queue();
                queue.idle = queue.logs.is_empty();
                if !queue.idle {
                    return true;
                }
                if queue.closing {
                    self.stopped.send_replace(true);
                    return false;
                }
            }
            self.bell.notified().await;
        }
    }
}

/// Writes a turn of each of these logs, and tells those who wait for it.
fn write_each(logs: Vec<Arc<Log>>, buffer: &mut Vec<u8>) {
    for log in logs {
        let told = match write(&log, buffer) {
            Ok(info) => info.map(Ok),
            Err(error) => Some(Err(error)),
        };
        let Some(told) = told else { continue };
        if let Err(error) = &told {
            fail(&log, error);
        }
        let waiting = log.state().recorded.take();
        // Let go of the log first: who hears that it is over may want to open or remove it.
        drop(log);
        if let Some(waiting) = waiting {
            // Whoever finished the log may have stopped waiting.
            let _unheard = waiting.send(told);
        }
    }
    buffer.clear();
    buffer.shrink_to(TURN);
}

/// What one turn of a log writes.
struct Turn {
    place: u64,
    /// Nothing was left over for another turn.
    last: bool,
    pieces: Vec<Bytes>,
    length: u64,
    dropped: u64,
    /// The end to record, when this turn writes the last byte.
    end: Option<End>,
    file: Option<Arc<File>>,
}

fn take_turn(log: &Log) -> Turn {
    let mut state = log.state();
    let mut pieces = Vec::new();
    let mut bytes = 0;
    let from = state
        .tail
        .partition_point(|(place, _)| *place < state.written);
    for (_, piece) in state.tail.range(from..) {
        if bytes >= TURN {
            break;
        }
        bytes += piece.len();
        pieces.push(piece.clone());
    }
    let last = state.written + bytes as u64 == state.length;
    if last {
        state.queued = false;
    }
    Turn {
        place: state.written,
        last,
        pieces,
        length: state.written + bytes as u64,
        dropped: state.dropped,
        end: state
            .end
            .clone()
            .filter(|_| last && std::mem::take(&mut state.finishing)),
        file: state.file.clone(),
    }
}

/// Writes one turn of a log. Gives what is recorded if it was the last.
fn write(log: &Arc<Log>, buffer: &mut Vec<u8>) -> Result<Option<LogInfo>, WriteError> {
    if log.state().failed.is_some() {
        return Ok(None);
    }
    let turn = take_turn(log);
    let io_error = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => WriteError::Exists { id: log.id },
        _ => WriteError::Io {
            id: log.id,
            why: error.to_string(),
        },
    };
    let (file, new) = match &turn.file {
        Some(file) => (Arc::clone(file), false),
        None => {
            let path = file::path(&log.shared.dir, log.id);
            (Arc::new(file::create(&path).map_err(io_error)?), true)
        }
    };
    log.state().file = Some(Arc::clone(&file));

    put(&file, new, &turn, buffer).map_err(io_error)?;
    Ok(wrote(log, turn))
}

/// Writes a turn so that a kill at any moment leaves a prefix of the log, and the word of its end only behind all of it:
/// first the bytes, then the header that tells of the end, then the reason.
fn put(file: &File, new: bool, turn: &Turn, buffer: &mut Vec<u8>) -> io::Result<()> {
    let end = turn.end.as_ref();
    let recorded_length = if end.is_some() { turn.length } else { 0 };
    let header = file::header(end, recorded_length, turn.dropped);
    let reason = file::trailer(end);
    let bytes: usize = turn.pieces.iter().map(Bytes::len).sum();
    // A kill can cut a write between pages, and not within the first one.
    let at_once = new && header.len() + bytes + reason.len() <= PAGE;
    buffer.clear();
    if at_once {
        buffer.extend_from_slice(header.as_bytes());
    } else if new {
        buffer.extend_from_slice(file::header(None, 0, 0).as_bytes());
    }
    for piece in &turn.pieces {
        buffer.extend_from_slice(piece);
    }
    if at_once {
        buffer.extend_from_slice(reason);
    }
    let at = if new { 0 } else { file::HEADER + turn.place };
    file.write_all_at(buffer, at)?;
    if end.is_some() && !at_once {
        file.write_all_at(header.as_bytes(), 0)?;
        file.write_all_at(reason, file::HEADER + turn.length)?;
    }
    Ok(())
}

/// Takes note of a turn that was written.
fn wrote(log: &Arc<Log>, turn: Turn) -> Option<LogInfo> {
    let charged = turn.pieces.iter().map(|piece| charge(piece.len())).sum();
    let digest = log.digest(&turn.pieces);
    drop(turn.pieces);
    let followed = log.is_followed();
    let mut state = log.state();
    state.written = turn.length;
    state.trim(followed);
    if turn.end.is_some() {
        state.live = false;
    }
    drop(state);
    // For those who read only what is stored.
    log.changed.notify_waiters();
    log.release(charged);
    if !turn.last {
        let disk = &log.shared.disk;
        disk.push(Arc::clone(log));
        disk.hurry();
    }
    turn.end.map(|_| LogInfo {
        digest: Some(digest.finalize().into()),
        ..log.info()
    })
}

/// Breaks a log that cannot be written: readers get what is on disk and the reason, its writer gets the error.
fn fail(log: &Arc<Log>, error: &WriteError) {
    let mut state = log.state();
    if state.failed.is_some() {
        return;
    }
    let first_unwritten = state
        .tail
        .partition_point(|(place, _)| *place < state.written);
    let unwritten = state.tail.drain(first_unwritten..);
    let charged = unwritten.map(|(_, piece)| charge(piece.len())).sum();
    let end = End::Broken {
        reason: format!("the log stops here because it could not be written: {error}"),
    };
    state.failed = Some(error.clone());
    state.length = state.written;
    state.end = Some(end.clone());
    state.finishing = false;
    state.live = false;
    state.queued = false;
    let file = state.file.clone();
    let (length, dropped) = (state.length, state.dropped);
    drop(state);
    // A closed store's log is failed on its writer's thread, which must not wait for the disk: it stays unfinished.
    if let Some(file) = file.filter(|_| *error != WriteError::Closed) {
        // The header's block is there already, so this works on a full disk; if not, the log stays unfinished.
        let header = file::header(Some(&end), length, dropped);
        let _best_effort = file
            .set_len(file::HEADER + length)
            .and_then(|()| file.write_all_at(header.as_bytes(), 0))
            .and_then(|()| file.write_all_at(file::trailer(Some(&end)), file::HEADER + length));
    }
    tracing::warn!(log = log.id, %error, "a log cannot be written");
    log.release(charged);
    log.changed.notify_waiters();
}
