//! What can go wrong with logs, in words for the person who reads or writes one.

/// Why a log could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no log with this id: it never was, or it was pruned.
    #[error("there is no log {id}; it may have been removed because of its age or to make room")]
    NotFound {
        /// The log's id.
        id: u64,
    },
    /// The reader asked for bytes past the end of what there is.
    #[error("cannot read the log from byte {start}: it has {length} bytes")]
    PastEnd {
        /// The first byte asked for.
        start: u64,
        /// Bytes there are.
        length: u64,
    },
    /// All stored bytes were read, and the log stopped before its end.
    #[error("{reason}")]
    Broken {
        /// Why, in one sentence.
        reason: String,
    },
    /// The disk or the operating system said no.
    #[error("failed to read log {id}: {why}")]
    Io {
        /// The log's id.
        id: u64,
        /// What the system said.
        why: String,
    },
}

/// Why bytes could not be appended. The log is then broken, and its writer should be dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is already a log with this id.
    #[error("there is already a log {id}")]
    Exists {
        /// The log's id.
        id: u64,
    },
    /// The log to resume is not there.
    #[error("there is no log {id} to resume")]
    NotFound {
        /// The log's id.
        id: u64,
    },
    /// The log to resume is shorter than the place to resume at, or it has ended.
    #[error("cannot resume log {id} at byte {at}: {why}")]
    Resume {
        /// The log's id.
        id: u64,
        /// Where it was to be resumed.
        at: u64,
        /// What is in the way.
        why: String,
    },
    /// The disk or the operating system said no.
    #[error("failed to write log {id}: {why}")]
    Io {
        /// The log's id.
        id: u64,
        /// What the system said.
        why: String,
    },
    /// The log store was closed.
    #[error("the log store is closed")]
    Closed,
}

/// Why a directory of logs could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written.
    #[error(
        "failed to open the log directory {dir}: {source}; check that it exists and is writable"
    )]
    Dir {
        /// The directory.
        dir: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("failed to start the log writer's thread: {0}")]
    Thread(std::io::Error),
}
