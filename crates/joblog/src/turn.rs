//! Writing what logs have gathered: one piece of each log, and all small logs of a range together.
//!
//! A log that is over when it is first written, and small, goes into the pack of its range, with all others of that range: a thousand
//! tiny jobs cost one write. Every other log has a file, which its first write makes, and its last one records the end. What cannot be
//! packed for whatever reason gets a file. A log whose write fails is broken, and the others go on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::Digest as _;

use crate::content::Content;
use crate::entry::Whole;
use crate::live::{CHUNK, Log, charge};
use crate::{End, LogInfo, WriteError, file, layout};

/// The most bytes of one log written before the next log has its turn.
const TURN: usize = 8 * CHUNK;
/// Bytes of a file's first page.
const PAGE: usize = 4096;
/// Pieces of this many bytes are worth a system call each.
const LARGE: usize = 32 << 10;

/// Writes a turn of each of these logs, and tells those who wait for it. Small logs come first: many are done at once.
pub(crate) fn write_each(logs: Vec<Arc<Log>>, buffer: &mut Vec<u8>) {
    let taken = logs.into_iter().filter_map(|log| {
        let turn = Turn::take(&log)?;
        Some((log, turn))
    });
    let (mut small, large): (Vec<_>, Vec<_>) =
        taken.partition(|(log, turn)| turn.whole(log.id).is_some());
    small.sort_unstable_by_key(|(log, _)| log.id);
    let mut small = small.into_iter().peekable();
    while let Some((first, _)) = small.peek() {
        let range = layout::range(first.id);
        let of_this_range = |(log, _): &(Arc<Log>, Turn)| layout::range(log.id) == range;
        let together = std::iter::from_fn(|| small.next_if(of_this_range));
        write_together(range, together.collect(), buffer);
    }
    for (log, turn) in large {
        write_alone(log, turn, buffer);
    }
    buffer.clear();
    buffer.shrink_to(TURN);
}

/// Writes whole small logs of one range into its pack.
fn write_together(range: u64, logs: Vec<(Arc<Log>, Turn)>, buffer: &mut Vec<u8>) {
    let Some(shared) = logs.first().map(|(log, _)| Arc::clone(&log.shared)) else {
        return;
    };
    let wholes: Vec<_> = logs
        .iter()
        .filter_map(|(log, turn)| turn.whole(log.id))
        .collect();
    let packed = shared.packs.append(range, &wholes, buffer);
    drop(wholes);
    match packed {
        Ok(Some(contents)) => {
            for ((log, turn), content) in logs.into_iter().zip(contents) {
                let told = match content {
                    Some(content) => Ok(wrote(&log, turn, content)),
                    None => Err(WriteError::Exists { id: log.id }),
                };
                tell(log, told);
            }
            return;
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(pack = range, %error, "a pack of small logs cannot be written, so they get files");
        }
    }
    for (log, turn) in logs {
        write_alone(log, turn, buffer);
    }
}

/// Writes a turn of a log into its own file.
fn write_alone(log: Arc<Log>, turn: Turn, buffer: &mut Vec<u8>) {
    let told = write(&log, turn, buffer);
    tell(log, told);
}

/// Tells those who wait for what was done about a log.
fn tell(log: Arc<Log>, told: Result<Option<LogInfo>, WriteError>) {
    let Some(told) = told.transpose() else { return };
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
    /// The log's own file, if it has one already.
    file: Option<Arc<File>>,
}

impl Turn {
    /// What a log has to write now. `None`: nothing is written of it any more.
    fn take(log: &Log) -> Option<Self> {
        let mut state = log.state();
        if state.failed.is_some() {
            return None;
        }
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
        Some(Self {
            place: state.written,
            last,
            pieces,
            length: state.written + bytes as u64,
            dropped: state.dropped,
            end: state
                .end
                .clone()
                .filter(|_| last && std::mem::take(&mut state.finishing)),
            file: state.content.as_ref().and_then(Content::own).cloned(),
        })
    }

    /// The log as a pack takes it, if this is all of a small one.
    fn whole(&self, id: u64) -> Option<Whole<'_>> {
        let end = self.end.as_ref().filter(|_| self.file.is_none())?;
        Whole::new(id, &self.pieces, self.dropped, end)
    }
}

/// Writes one turn of a log into its own file. Gives what is recorded if it was the last.
fn write(log: &Arc<Log>, turn: Turn, buffer: &mut Vec<u8>) -> Result<Option<LogInfo>, WriteError> {
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
            // A pack that cannot be looked into is no reason to lose this log.
            if !log.shared.packs.note_file(log.id).unwrap_or(true) {
                return Err(WriteError::Exists { id: log.id });
            }
            let path = layout::log(&log.shared.dir, log.id);
            (Arc::new(layout::create(&path).map_err(io_error)?), true)
        }
    };
    let content = Content::Own(Arc::clone(&file));
    // At once, so that what becomes of it can be recorded if it cannot be written.
    log.state().content = Some(content.clone());
    put(&file, new, &turn, buffer).map_err(io_error)?;
    Ok(wrote(log, turn, content))
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
    // Large pieces go as they are: gathering them costs more than a call for each.
    if !new && bytes / turn.pieces.len().max(1) >= LARGE {
        let mut at = file::HEADER + turn.place;
        for piece in &turn.pieces {
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        return tell_end(file, turn, &header, reason);
    }
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
    if at_once {
        return Ok(());
    }
    tell_end(file, turn, &header, reason)
}

/// Writes the end, if this turn has it, behind bytes that are written already.
fn tell_end(file: &File, turn: &Turn, header: &str, reason: &[u8]) -> io::Result<()> {
    if turn.end.is_some() {
        file.write_all_at(header.as_bytes(), 0)?;
        file.write_all_at(reason, file::HEADER + turn.length)?;
    }
    Ok(())
}

/// Takes note of a turn that was written.
fn wrote(log: &Arc<Log>, turn: Turn, content: Content) -> Option<LogInfo> {
    let charged = turn.pieces.iter().map(|piece| charge(piece.len())).sum();
    let digest = log.digest(&turn.pieces);
    drop(turn.pieces);
    let followed = log.is_followed();
    let mut state = log.state();
    state.content = Some(content);
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
pub(crate) fn fail(log: &Arc<Log>, error: &WriteError) {
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
    let file = state.content.as_ref().and_then(Content::own).cloned();
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
