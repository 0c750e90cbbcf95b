//! Reads a blob from its start, wherever others who share the open file are.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::Blob;

/// The bytes of a part of a file. A file that is shorter by now is an error, not an end.
pub(super) struct BlobReader {
    file: File,
    rest: Range<u64>,
}

impl BlobReader {
    pub(super) fn new(file: File, range: Range<u64>) -> Self {
        Self { file, rest: range }
    }
}

impl From<Blob> for BlobReader {
    fn from(blob: Blob) -> Self {
        Self::new(blob.file, blob.range)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.rest.end.saturating_sub(self.rest.start);
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(buffer) = buffer.get_mut(..room).filter(|room| !room.is_empty()) else {
            return Ok(0);
        };
        let got = self.file.read_at(buffer, self.rest.start)?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is shorter than it was",
            ));
        }
        self.rest.start += got as u64;
        Ok(got)
    }
}
