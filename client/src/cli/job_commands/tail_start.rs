//! Where the last lines of a log begin. Reads the log backwards, as far as it must, and keeps none of it.

use bytes::Bytes;
use futures::StreamExt as _;
use ocluster_vat::RpcError;

use crate::DurableJob;

/// How much of the log is looked at in one step, in bytes.
const WINDOW: u64 = 64 << 10;

/// Where the last `lines` lines of the bytes from `start` up to `end` begin. What follows the last line feed is a line, too.
pub(super) async fn tail_start(
    job: &DurableJob,
    start: u64,
    end: u64,
    lines: u64,
) -> Result<u64, RpcError> {
    if lines == 0 || start >= end {
        return Ok(end);
    }
    let mut search = Search { left: lines, end };
    let mut high = end;
    while high > start {
        let low = high.saturating_sub(WINDOW).max(start);
        let window = read(job, low, high).await?;
        if let Some(found) = search.back_over(&window, low) {
            return Ok(found);
        }
        high = low;
    }
    Ok(start)
}

/// The bytes from `low` up to `high`, which are all there.
async fn read(job: &DurableJob, low: u64, high: u64) -> Result<Vec<u8>, RpcError> {
    let wanted = usize::try_from(high - low).unwrap_or(usize::MAX);
    let mut window = Vec::with_capacity(wanted);
    let mut log = std::pin::pin!(job.log(low));
    while window.len() < wanted {
        let Some(piece) = log.next().await else { break };
        let piece: Bytes = piece?;
        let left = wanted - window.len();
        window.extend_from_slice(piece.get(..left).unwrap_or(&piece));
    }
    Ok(window)
}

struct Search {
    /// How many lines are still to be gone back over.
    left: u64,
    /// Where the log ends. A line feed there ends a line and begins none.
    end: u64,
}

impl Search {
    /// Goes back over the window, which begins at `low` in the log. Gives where the lines begin, if that is in the window.
    fn back_over(&mut self, window: &[u8], low: u64) -> Option<u64> {
        for (place, byte) in window.iter().enumerate().rev() {
            let behind = low + place as u64 + 1;
            if *byte != b'\n' || behind == self.end {
                continue;
            }
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return Some(behind);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As [`tail_start`], with windows of this size.
    fn found(log: &[u8], lines: u64, window: usize) -> Option<u64> {
        let mut search = Search {
            left: lines,
            end: log.len() as u64,
        };
        let mut high = log.len();
        while high > 0 {
            let low = high.saturating_sub(window);
            if let Some(found) = search.back_over(&log[low..high], low as u64) {
                return Some(found);
            }
            high = low;
        }
        None
    }

    #[test]
    fn the_last_lines_begin_behind_a_line_feed_wherever_the_windows_meet() {
        for window in 1..=12 {
            assert_eq!(found(b"a\nbb\nccc\n", 1, window), Some(5), "{window}");
            assert_eq!(found(b"a\nbb\nccc", 1, window), Some(5), "{window}");
            assert_eq!(found(b"a\nbb\nccc\n", 2, window), Some(2), "{window}");
            assert_eq!(found(b"a\nbb\nccc\n", 3, window), None, "{window}");
            assert_eq!(found(b"a\n\n\n", 2, window), Some(2), "{window}");
            assert_eq!(found(b"no end", 1, window), None, "{window}");
        }
    }
}
