//! How an OBuilder build reads in a job's log: headings and remarks in colours, output as it is. The bytes are those of OCluster's
//! workers, which people and tools know.

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ocluster_obuilder::build::BuildLog;

use crate::executor::JobLog;

/// A build that tells in a job's log.
pub(super) struct InJobLog<'a>(pub(super) &'a JobLog);

impl BuildLog for InJobLog<'_> {
    fn heading<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        Box::pin(self.0.write(heading(&text)))
    }

    fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        Box::pin(self.0.write(note(&text, Timestamp::now())))
    }

    fn output<'a>(&'a self, bytes: Bytes) -> BoxFuture<'a, ()> {
        Box::pin(self.0.write(bytes))
    }
}

fn heading(text: &[u8]) -> Vec<u8> {
    [b"\n\x1b[01;34m", text, b"\x1b[0m\n"].concat()
}

fn note(text: &[u8], now: Timestamp) -> Vec<u8> {
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M.%S");
    let before = format!("\x1b[01;2m\x1b[01;35m{time} ");
    [before.as_bytes(), text, b"\x1b[0m\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_and_notes_are_told_from_output_by_their_colours() {
        assert_eq!(
            heading(b"(from busybox)"),
            b"\n\x1b[01;34m(from busybox)\x1b[0m\n"
        );
        let now = "2026-11-20T21:03:09Z".parse().unwrap();
        assert_eq!(
            note(b"---> saved as \"12\"", now),
            b"\x1b[01;2m\x1b[01;35m2026-11-20 21:03.09 ---> saved as \"12\"\x1b[0m\n"
        );
    }
}
