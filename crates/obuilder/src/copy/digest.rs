//! Hashes files, and copies them meanwhile.

use std::os::fd::{AsFd, BorrowedFd};

use ocluster_obuilder_spec::quoted;
use rustix::fs::{self, FileType, Stat};
use rustix::io::{self, Errno};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::CopyError;
use super::tree::failed;

/// How much is read at once, in bytes.
const PIECE: usize = 256 * 1024;

/// Reads files, one after the other.
pub(super) struct Reader<'a> {
    buffer: Vec<u8>,
    cancel: &'a CancellationToken,
}

/// What was read.
pub(super) struct Read {
    /// Of the content.
    pub(super) sha256: [u8; 32],
    /// Of the file.
    pub(super) stat: Stat,
}

impl<'a> Reader<'a> {
    pub(super) fn new(cancel: &'a CancellationToken) -> Self {
        Self {
            buffer: vec![0; PIECE],
            cancel,
        }
    }

    /// Fails once it is to stop.
    pub(super) fn check(&self) -> Result<(), CopyError> {
        if self.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        Ok(())
    }

    /// Reads the whole regular file `file`, `path` below its root, and appends what it reads to `sink`. A file that is written to
    /// meanwhile is an error, as is one that is not a regular one any more.
    pub(super) fn read(
        &mut self,
        file: impl AsFd,
        path: &[u8],
        sink: Option<BorrowedFd<'_>>,
    ) -> Result<Read, CopyError> {
        let reading = |errno| failed("read", path, errno);
        let before = fs::fstat(&file).map_err(reading)?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Err(changed(path));
        }
        let mut hash = Sha256::new();
        let mut length = 0u64;
        loop {
            self.check()?;
            let count = match io::read(&file, self.buffer.as_mut_slice()) {
                Ok(0) => break,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(reading(errno)),
            };
            let piece = self.buffer.get(..count).unwrap_or_default();
            hash.update(piece);
            length += count as u64;
            if let Some(sink) = sink {
                write_all(sink, piece).map_err(|errno| failed("write a copy of", path, errno))?;
            }
        }
        let after = fs::fstat(&file).map_err(reading)?;
        if state(&before) != state(&after) || u64::try_from(after.st_size) != Ok(length) {
            return Err(changed(path));
        }
        Ok(Read {
            sha256: hash.finalize().into(),
            stat: after,
        })
    }
}

/// The error of a source that is not what it was a moment ago.
pub(super) fn changed(path: &[u8]) -> CopyError {
    CopyError::Request(format!("{} changed while it was copied", quoted(path)))
}

/// What every write to a file changes.
fn state(stat: &Stat) -> impl PartialEq + use<> {
    (
        (stat.st_size, stat.st_mtime, stat.st_mtime_nsec),
        (stat.st_ctime, stat.st_ctime_nsec),
    )
}

fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match io::write(sink, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_and_copied_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let content = vec![7; PIECE * 2 + 1];
        std::fs::write(dir.path().join("f"), &content).unwrap();
        let source = std::fs::File::open(dir.path().join("f")).unwrap();
        let sink = std::fs::File::create(dir.path().join("g")).unwrap();
        let cancel = CancellationToken::new();
        let read = Reader::new(&cancel)
            .read(&source, b"f", Some(sink.as_fd()))
            .unwrap();
        assert_eq!(read.sha256, <[u8; 32]>::from(Sha256::digest(&content)));
        assert_eq!(std::fs::read(dir.path().join("g")).unwrap(), content);
    }

    #[test]
    fn reading_stops_when_it_is_cancelled() {
        let file = tempfile::tempfile().unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let answer = Reader::new(&cancel).read(&file, b"f", None);
        assert!(matches!(answer, Err(CopyError::Cancelled)));
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_has_changed() {
        // What is written to the copy is appended to the source itself, so that it only ends once the source is cut short.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"start").unwrap();
        let source = std::fs::File::open(&path).unwrap();
        let sink = std::fs::File::options().append(true).open(&path).unwrap();
        let cancel = CancellationToken::new();
        let mut reader = Reader::new(&cancel);
        let answer = std::thread::scope(|scope| {
            let ender = scope.spawn(|| {
                while sink.metadata().unwrap().len() < 1_000_000 {
                    std::thread::yield_now();
                }
                // Shorter than what was read already.
                sink.set_len(0).unwrap();
            });
            let answer = reader.read(&source, b"f", Some(sink.as_fd()));
            ender.join().unwrap();
            answer
        });
        let Err(error) = answer else {
            panic!("nobody noticed")
        };
        assert_eq!(error.to_string(), r#""f" changed while it was copied"#);
    }
}
