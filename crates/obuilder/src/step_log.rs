//! The output of one step: written once, read by everybody who waits for the step, while it grows and after it was renamed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// The log of a step under way. It is a file that is kept open, so it stays readable wherever the directory moves. Clones write to the
/// same log.
#[derive(Clone, Debug)]
pub struct StepLog {
    _shared: Arc<()>,
}

/// Reads a log from its start and follows it until it is closed.
#[derive(Debug)]
pub struct LogReader {}

impl StepLog {
    /// An empty log in a new file at `path`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub async fn create(_path: &Path) -> io::Result<Self> {
        todo!()
    }

    /// The closed log of a finished step; a missing file is an empty log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn open(_path: &Path) -> io::Result<Self> {
        todo!()
    }

    /// Appends `bytes`, and wakes the readers.
    ///
    /// # Errors
    /// The disk's. A reader then sees what was written, and the end.
    pub async fn write(&self, _bytes: impl Into<Bytes>) -> io::Result<()> {
        todo!()
    }

    /// How much there is, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says that no more will come.
    pub fn close(&self) {
        todo!()
    }

    /// A reader from the start.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        todo!()
    }
}

impl LogReader {
    /// The next piece, at most 64 KiB; waits for one; `None` at the end of a closed log.
    ///
    /// # Errors
    /// The disk's.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        todo!()
    }
}
