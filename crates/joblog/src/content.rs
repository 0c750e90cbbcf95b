//! Where the bytes of a log are that is on disk, whichever form it has there.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::file;
use crate::live::{CHUNK, Stored};

/// The bytes of a log on disk. Clones share the open file.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In a file of its own.
    Own(Arc<File>),
    /// In a pack, from this place on.
    Packed(Arc<File>, u64),
}

impl Content {
    /// The log's own file, if it has one.
    pub(crate) fn own(&self) -> Option<&Arc<File>> {
        match self {
            Self::Own(file) => Some(file),
            Self::Packed(..) => None,
        }
    }

    /// Reads exactly these bytes of the log.
    ///
    /// # Errors
    /// The system's error; or that there are fewer.
    pub(crate) fn read(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let (file, first) = match self {
            Self::Own(file) => (file, file::HEADER),
            Self::Packed(file, first) => (file, *first),
        };
        let mut data = vec![0; length];
        file.read_exact_at(&mut data, first + start)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "its file is shorter than it was; something else cut it",
                ),
                _ => error,
            })?;
        Ok(data)
    }

    /// Reads the first `length` bytes of the log again, for those who go on with it under this limit.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn reread(&self, length: u64, limit: u64) -> io::Result<Stored> {
        let mut digest = Sha256::new();
        let mut noted = 0;
        let mut place = 0;
        while place < length {
            let piece = usize::try_from(length - place).unwrap_or(CHUNK).min(CHUNK);
            digest.update(self.read(place, piece)?);
            place += piece as u64;
        }
        if limit > 0 && length > limit {
            let note = file::limit_note(limit);
            let there = usize::try_from(length - limit).unwrap_or(note.len());
            let part = self.read(limit, there.min(note.len()))?;
            // Under another limit there may be the job's own bytes here, and no note yet.
            if note.as_bytes().starts_with(&part) {
                noted = part.len();
            }
        }
        Ok(Stored { digest, noted })
    }
}
