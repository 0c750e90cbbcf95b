//! How a log ended, and what is known of a log without reading it.

/// How a log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is complete: nothing more will come.
    Closed,
    /// It stopped before its end: the worker was lost, the disk was full, ...
    Broken {
        /// One sentence for the reader, who gets it after the stored bytes.
        reason: String,
    },
}

/// What is known of a log without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// The log's id: its job's.
    pub id: u64,
    /// Bytes a reader can get.
    pub length: u64,
    /// Bytes that were dropped past the size limit.
    pub dropped: u64,
    /// How it ended. `None` for a log which is being written, or which nobody finished before a crash.
    pub end: Option<End>,
    /// Whether a writer has it open in this process.
    pub live: bool,
    /// SHA-256 of all bytes a reader can get, for whoever finished the log: it is kept nowhere.
    pub digest: Option<[u8; 32]>,
}
