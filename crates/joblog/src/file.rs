//! The form of a log that has a file of its own: a header line of 64 bytes, the log's bytes, and the reason if it broke.
//!
//! Every log lies so which is not over when it is first written, or is too large for the other form: an [entry](crate::entry) in the
//! pack of its range. A log that is there in both forms was gone on with after it had been packed, and its own file is what counts, as
//! soon as that has its header.
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

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{End, LogInfo, ReadError, layout};

/// Bytes of the header line.
pub(crate) const HEADER: u64 = 64;
/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 4096;
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

/// The end of a log that broke for what is written here.
pub(crate) fn broken(reason: &[u8]) -> End {
    let mut reason = String::from_utf8_lossy(reason).into_owned();
    if reason.is_empty() {
        // The reason is written last, and a kill came between.
        UNEXPLAINED.clone_into(&mut reason);
    }
    End::Broken { reason }
}

/// Opens an existing log and reads what its header says.
pub(crate) fn open(dir: &Path, id: u64, write: bool) -> Result<(File, LogInfo), ReadError> {
    let io_error = |error| read_error(id, &error);
    let file = File::options()
        .read(true)
        .write(write)
        .open(layout::log(dir, id))
        .map_err(io_error)?;
    let info = inspect(&file, id).map_err(io_error)?;
    Ok((file, info))
}

/// What a reader of this log is told of an error.
pub(crate) fn read_error(id: u64, error: &io::Error) -> ReadError {
    match error.kind() {
        ErrorKind::NotFound => ReadError::NotFound { id },
        _ => ReadError::Io {
            id,
            why: error.to_string(),
        },
    }
}

/// Whether a log's first write has reached its file.
pub(crate) fn is_begun(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.len() >= HEADER)
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
            broken(&reason)
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
}
