//! `log`: what a job printed, through all its attempts.

use std::io::{self, Write as _};

use ocluster_cli::jobs::JsonJob;
use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::Vat;

use super::jobs::{JobCallFailed, find};
use crate::args::JobLog;
use crate::cluster::{CallError, Job};

/// How far back a look for the beginning of a line goes at a time, in bytes.
const STRIDE: u64 = 256 * 1024;

pub(super) async fn log(args: &JobLog, vat: &Vat) -> Result<ExitCode, Failure> {
    let mode = args.job.output.output;
    let job = find(&args.job.cap, &args.job.id, vat).await?;
    let info = job.info().await.map_err(JobCallFailed)?;
    let start = match args.tail {
        None => 0,
        Some(lines) => last_lines(&job, info.log_length, lines)
            .await
            .map_err(JobCallFailed)?,
    };
    let there = if args.follow || info.state.is_ended() {
        None
    } else {
        Some(info.log_length)
    };
    let mut next = start;
    while there.is_none_or(|there| next < there) {
        let piece = job.log(next).await.map_err(JobCallFailed)?;
        if piece.bytes.is_empty() {
            break;
        }
        print(mode, &piece.bytes)?;
        next = piece.next;
    }
    let info = if args.follow {
        job.ended().await.map_err(JobCallFailed)?
    } else {
        info
    };
    if mode == OutputMode::Json {
        output::json(JsonJob::from(&info))?;
    }
    // Who follows a job wants to know how it ended, as from the client's program.
    if args.follow && !info.has_passed() {
        return Ok(ExitCode::Failed);
    }
    Ok(ExitCode::Success)
}

/// Prints the log as it is: where data goes, or out of the way of it.
fn print(mode: OutputMode, bytes: &[u8]) -> io::Result<()> {
    match mode {
        OutputMode::Human => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        OutputMode::Json => {
            // If standard error is gone, nobody wants the log.
            drop(io::stderr().lock().write_all(bytes));
            Ok(())
        }
    }
}

/// Where the last `lines` lines of the first `length` bytes of the log begin. A line that has no end yet is one, too.
async fn last_lines(job: &Job, length: u64, lines: usize) -> Result<u64, CallError> {
    if lines == 0 {
        return Ok(length);
    }
    let mut found = Backwards::new(lines);
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STRIDE);
        let bytes = between(job, start, end).await?;
        if let Some(place) = found.look(&bytes) {
            return Ok(start + u64::try_from(place).unwrap_or_default());
        }
        end = start;
    }
    Ok(0)
}

/// The bytes of the log from `start` to `end`, which are there.
async fn between(job: &Job, start: u64, end: u64) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    let mut at = start;
    while at < end {
        let piece = job.log(at).await?;
        if piece.bytes.is_empty() {
            break;
        }
        bytes.extend(piece.bytes);
        at = piece.next;
    }
    bytes.truncate(usize::try_from(end - start).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Counts lines from the end of a text that comes in pieces, the last one first.
struct Backwards {
    lines: usize,
    /// Whether the text's last byte was seen: a line feed there ends the last line, and begins none.
    begun: bool,
}

impl Backwards {
    fn new(lines: usize) -> Self {
        Self {
            lines,
            begun: false,
        }
    }

    /// Where in this piece the lines begin, if it is in this one.
    fn look(&mut self, piece: &[u8]) -> Option<usize> {
        for (place, byte) in piece.iter().enumerate().rev() {
            let last = !std::mem::replace(&mut self.begun, true);
            if *byte == b'\n' && !last {
                self.lines = self.lines.saturating_sub(1);
                if self.lines == 0 {
                    return Some(place + 1);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last lines of a text that is looked at in pieces of `stride` bytes.
    fn tail(text: &str, lines: usize, stride: usize) -> &str {
        let mut found = Backwards::new(lines);
        let mut end = text.len();
        while end > 0 {
            let start = end.saturating_sub(stride);
            if let Some(place) = found.look(&text.as_bytes()[start..end]) {
                return &text[start + place..];
            }
            end = start;
        }
        text
    }

    #[test]
    fn the_last_lines_are_the_same_however_the_log_is_cut() {
        for stride in 1..12 {
            assert_eq!(tail("one\ntwo\nthree\n", 1, stride), "three\n", "{stride}");
            assert_eq!(tail("one\ntwo\nthree", 2, stride), "two\nthree", "{stride}");
            assert_eq!(tail("one\n\n\n", 2, stride), "\n\n", "{stride}");
            assert_eq!(tail("one\ntwo\n", 3, stride), "one\ntwo\n", "{stride}");
            assert_eq!(tail("", 3, stride), "", "{stride}");
        }
    }
}
