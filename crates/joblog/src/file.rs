//! The form of a log on disk: one file, a header line of 64 bytes, the log's bytes, and the reason if it broke.
//!
//! The header is text and has one length for ever, so that `tail -c +65` shows the plain log, a tiny job's whole log is
//! one write, and an end costs one write in place. It tells a finished log from one that a crash cut off, and a whole
//! one from one that lost its tail when the machine went down.
//!
//! ```text
//! ocluster-log 1 closed 00000000000000000123 00000000000000000000\n   state, length, dropped
//! ```
//!
//! Nothing here keeps state; everything here may wait for a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::live::{CHUNK, Stored};
use crate::{End, LogInfo, ReadError};

/// Bytes of the header line.
pub(crate) const HEADER: u64 = 64;
/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 4096;
/// Logs in one directory, so that no directory grows without bounds.
const PER_DIR: u64 = 1024;
const MAGIC: &str = "ocluster-log 1 ";

/// What a reader of an unfinished log is told after its last byte.
pub(crate) const UNFINISHED: &str =
    "the log stops here: the program that wrote it went away before the job's end";

/// What a reader is told when a log broke and the reason was not kept.
const UNEXPLAINED: &str = "the log stops here, and the reason was lost";

/// The line at the end of a log that passed the limit.
pub(crate) fn limit_note(limit: u64) -> String {
    format!("\n[log truncated: it passed the limit of {limit} bytes; the job goes on]\n")
}

/// Where the log lies under the store's directory.
pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    let mut path = dir.join((id / PER_DIR).to_string());
    path.push(format!("{id}.log"));
    path
}

/// The id a file's name stands for, if it is a log's.
pub(crate) fn id_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".log")?.parse().ok()
}

/// The header line of a log.
pub(crate) fn header(end: Option<&End>, length: u64, dropped: u64) -> String {
    let state = match end {
        None => "open  ",
        Some(End::Closed) => "closed",
        Some(End::Broken { .. }) => "broken",
    };
    format!("{MAGIC}{state} {length:020} {dropped:020}\n")
}

/// The bytes that follow the log's own: the reason, if it broke.
pub(crate) fn trailer(end: Option<&End>) -> &[u8] {
    match end {
        Some(End::Broken { reason }) => {
            let mut cut = reason.len().min(MAX_REASON);
            while !reason.is_char_boundary(cut) {
                cut -= 1;
            }
            reason.get(..cut).unwrap_or_default().as_bytes()
        }
        Some(End::Closed) | None => b"",
    }
}

/// Makes the file of a new log, and its directory if need be.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(path)
    };
    // Pruning may remove the empty directory just after it was made, so this is tried again a few times.
    let mut tries = 0;
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < 4 => {
                tries += 1;
                if let Some(dir) = path.parent() {
                    std::fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o750)
                        .create(dir)?;
                }
            }
            result => return result,
        }
    }
}

/// Opens an existing log and reads what its header says.
pub(crate) fn open(dir: &Path, id: u64, write: bool) -> Result<(File, LogInfo), ReadError> {
    let io_error = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => ReadError::NotFound { id },
        _ => ReadError::Io {
            id,
            why: error.to_string(),
        },
    };
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .open(path(dir, id))
        .map_err(io_error)?;
    let info = inspect(&file, id).map_err(io_error)?;
    Ok((file, info))
}

fn inspect(file: &File, id: u64) -> io::Result<LogInfo> {
    let size = file.metadata()?.len();
    let mut info = LogInfo {
        id,
        length: size.saturating_sub(HEADER),
        dropped: 0,
        end: None,
        live: false,
        digest: None,
    };
    if size < HEADER {
        // A crash can leave a file without its first write; it is an unfinished log of no bytes.
        return Ok(info);
    }
    let mut line = [0; HEADER as usize];
    file.read_exact_at(&mut line, 0)?;
    let strange = || io::Error::new(ErrorKind::InvalidData, "its first line is not a log's");
    let (state, length, dropped) = parse(&line).ok_or_else(strange)?;
    info.dropped = dropped;
    if state == "open" {
        return Ok(info);
    }
    if info.length < length {
        let lost = length - info.length;
        info.end = Some(End::Broken {
            reason: format!(
                "the log stops here: its last {lost} bytes were lost, probably when the machine went down"
            ),
        });
        return Ok(info);
    }
    let extra = usize::try_from(info.length - length).unwrap_or(MAX_REASON);
    info.length = length;
    info.end = Some(match state {
        "closed" => End::Closed,
        "broken" => {
            let mut reason = vec![0; extra.min(MAX_REASON)];
            file.read_exact_at(&mut reason, HEADER + length)?;
            let mut reason = String::from_utf8_lossy(&reason).into_owned();
            if reason.is_empty() {
                // The reason is written last, and a kill came between.
                UNEXPLAINED.clone_into(&mut reason);
            }
            End::Broken { reason }
        }
        _ => return Err(strange()),
    });
    Ok(info)
}

fn parse(line: &[u8]) -> Option<(&str, u64, u64)> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)?;
    let mut fields = rest.strip_suffix('\n')?.split_ascii_whitespace();
    let state = fields.next()?;
    let length = fields.next()?.parse().ok()?;
    let dropped = fields.next()?.parse().ok()?;
    Some((state, length, dropped))
}

/// Reads exactly these bytes of the log.
pub(crate) fn read(file: &File, start: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; length];
    file.read_exact_at(&mut data, HEADER + start)
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => io::Error::new(
                ErrorKind::UnexpectedEof,
                "its file is shorter than it was; something else cut it",
            ),
            _ => error,
        })?;
    Ok(data)
}

/// Reads the first `length` bytes of a log again, for those who go on with it under this limit.
pub(crate) fn reread(file: &File, length: u64, limit: u64) -> io::Result<Stored> {
    let mut digest = Sha256::new();
    let mut noted = 0;
    let mut place = 0;
    while place < length {
        let piece = usize::try_from(length - place).unwrap_or(CHUNK).min(CHUNK);
        digest.update(read(file, place, piece)?);
        place += piece as u64;
    }
    if limit > 0 && length > limit {
        let note = limit_note(limit);
        let there = usize::try_from(length - limit).unwrap_or(note.len());
        let part = read(file, limit, there.min(note.len()))?;
        // Under another limit there may be the job's own bytes here, and no note yet.
        if note.as_bytes().starts_with(&part) {
            noted = part.len();
        }
    }
    Ok(Stored { digest, noted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_always_one_line_of_64_bytes() {
        let broken = End::Broken {
            reason: "x".to_owned(),
        };
        for end in [None, Some(&End::Closed), Some(&broken)] {
            for length in [0, 1, u64::MAX] {
                let line = header(end, length, length);
                assert_eq!(line.len() as u64, HEADER);
                assert!(parse(line.as_bytes()).is_some(), "{line}");
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let end = End::Broken {
            reason: format!("a{}", "é".repeat(4000)),
        };
        let kept = trailer(Some(&end));
        assert_eq!(kept.len(), 4095);
        assert!(std::str::from_utf8(kept).is_ok());
    }

    #[test]
    fn files_that_are_no_logs_have_no_id() {
        assert_eq!(id_of(Path::new("x/12.log")), Some(12));
        assert_eq!(id_of(Path::new("x/12.txt")), None);
        assert_eq!(id_of(Path::new("x/a.log")), None);
        assert_eq!(id_of(&path(Path::new("d"), 5000)), Some(5000));
    }
}
