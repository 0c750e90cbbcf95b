//! The bounds of a log store. Every one has a default that suits a scheduler of some thousand running jobs.

use std::time::Duration;

/// Bounds of a [`LogStore`](crate::LogStore).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The longest a log may grow, in bytes; 0 means no limit (the default). What comes later is counted and dropped,
    /// and the log says so in its last line, which is not counted in the limit.
    pub max_log_bytes: u64,
    /// Bytes of one log that may wait to be written before its writer has to wait. 512 KiB by default; at least one
    /// chunk (128 KiB).
    pub max_waiting_per_log: usize,
    /// Bytes of all logs together that may wait to be written. 64 MiB by default; at least one chunk.
    pub max_waiting: usize,
    /// How long appended bytes may wait for more to be written together with them. Readers get them at once, unless they want
    /// [what is stored](crate::LogReader::of_what_is_stored). A crash
    /// of the process loses no more than this. 10 ms by default.
    pub linger: Duration,
    /// Disk reads under way at a time. 8 by default, at least 1.
    pub max_reads: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            max_log_bytes: 0,
            max_waiting_per_log: 512 << 10,
            max_waiting: 64 << 20,
            linger: Duration::from_millis(10),
            max_reads: 8,
        }
    }
}
