//! The output of one step: written once, read by everybody who waits for the step, while it grows and after it was renamed.
//!
//! The file is the only copy: a writer never waits for a reader, and memory holds one piece per reader, however much is printed.
//! Readers are woken, they never poll. What the kernel has in memory is read on the spot; only what it would have to fetch from the disk
//! (and everything that is written, which may have to wait for the disk) goes to threads that may block. Bytes are never interpreted.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::watch;

/// The most bytes that a reader is given at once.
const PIECE: usize = 64 * 1024;

/// The log of a step under way. It is a file that is kept open, so it stays readable wherever the directory moves. Clones write to the
/// same log. When the last of them is dropped, the log is closed.
#[derive(Clone, Debug)]
pub struct StepLog {
    writer: Arc<Writer>,
}

/// Reads a log from its start and follows it until it is closed. A clone goes on from where this one is.
#[derive(Clone, Debug)]
pub struct LogReader {
    file: Option<Arc<File>>,
    extent: watch::Receiver<Extent>,
    position: u64,
}

/// The end of a log that is written. Only clones of a [`StepLog`] hold it, so readers see it go.
#[derive(Debug)]
struct Writer {
    /// `None` for a log without a file, which is empty.
    file: Option<Arc<File>>,
    extent: watch::Sender<Extent>,
    /// Held while bytes are written, by threads that may block.
    turn: Mutex<()>,
}

/// How far a log goes.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    len: u64,
    closed: bool,
}

impl StepLog {
    /// An empty log in a new file at `path`.
    ///
    /// # Errors
    /// The file cannot be created, or is there already.
    pub async fn create(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let file = blocking(move || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)
        })
        .await?;
        Ok(Self::new(Some(file), Extent::default()))
    }

    /// An empty log in a file without a name, on the filesystem of the directory `dir`. It is gone with its last user.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(crate) async fn unnamed(dir: &Path) -> io::Result<Self> {
        let dir = dir.to_owned();
        let file = blocking(move || tempfile::tempfile_in(dir)).await?;
        Ok(Self::new(Some(file), Extent::default()))
    }

    /// The closed log of a finished step; a missing file is an empty log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn open(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let (file, len) = blocking(move || match File::open(path) {
            Ok(file) => {
                let len = file.metadata()?.len();
                Ok((Some(file), len))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, 0)),
            Err(error) => Err(error),
        })
        .await?;
        Ok(Self::new(file, Extent { len, closed: true }))
    }

    fn new(file: Option<File>, extent: Extent) -> Self {
        Self {
            writer: Arc::new(Writer {
                file: file.map(Arc::new),
                extent: watch::Sender::new(extent),
                turn: Mutex::new(()),
            }),
        }
    }

    /// Appends `bytes`, and wakes the readers. The bytes of one call stay together. They are written even if the caller stops waiting.
    ///
    /// # Errors
    /// The disk's. A reader then sees what was written, and the end. A log that is closed takes no more.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        let bytes = bytes.into();
        let writer = Arc::clone(&self.writer);
        blocking(move || writer.append(&bytes)).await
    }

    /// The last `most` bytes of what there is.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) async fn last(&self, most: u32) -> io::Result<Bytes> {
        let end = self.len();
        let position = end.saturating_sub(u64::from(most));
        let wanted = usize::try_from(end - position).unwrap_or(0);
        match &self.writer.file {
            Some(file) => {
                let file = Arc::clone(file);
                blocking(move || read(&file, position, wanted)).await
            }
            None => Ok(Bytes::new()),
        }
    }

    /// How much there is, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.writer.extent.borrow().len
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says that no more will come.
    pub fn close(&self) {
        self.writer.close();
    }

    /// A reader from the start.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader {
            file: self.writer.file.clone(),
            extent: self.writer.extent.subscribe(),
            position: 0,
        }
    }
}

impl Writer {
    fn append(&self, mut bytes: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Extent { mut len, closed } = *self.extent.borrow();
        let Some(file) = self.file.as_ref().filter(|_| !closed) else {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the step's log is closed",
            ));
        };
        let result = loop {
            if bytes.is_empty() {
                break Ok(());
            }
            match file.write_at(bytes, len) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    len += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.extent.send_modify(|extent| {
            extent.len = len;
            extent.closed |= result.is_err();
        });
        result
    }

    fn close(&self) {
        self.extent
            .send_if_modified(|extent| !std::mem::replace(&mut extent.closed, true));
    }
}

impl LogReader {
    /// The next piece, at most 64 KiB; waits for one; `None` at the end of a closed log. Nothing is lost if the caller stops waiting.
    ///
    /// # Errors
    /// The disk's.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let position = self.position;
        // An error says that all writers are gone, without a word: what they wrote is what there is.
        let _ = self
            .extent
            .wait_for(|extent| extent.closed || extent.len > position)
            .await;
        let extent = *self.extent.borrow();
        let wanted = extent.len.saturating_sub(position);
        let Some(file) = self.file.as_ref().filter(|_| wanted > 0) else {
            return Ok(None);
        };
        let wanted = usize::try_from(wanted).unwrap_or(PIECE).min(PIECE);
        let piece = match read_at_once(file, position, wanted)? {
            Some(piece) => piece,
            None => {
                let file = Arc::clone(file);
                blocking(move || read(&file, position, wanted)).await?
            }
        };
        if piece.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the step's log was cut short by somebody else",
            ));
        }
        self.position += piece.len() as u64;
        Ok(Some(piece))
    }
}

/// Reads what the kernel can give without waiting for the disk; `None` if it cannot give anything.
fn read_at_once(file: &File, position: u64, wanted: usize) -> io::Result<Option<Bytes>> {
    let mut piece = vec![0; wanted];
    match rustix::io::preadv2(
        file,
        &mut [IoSliceMut::new(&mut piece)],
        position,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(read) => {
            piece.truncate(read);
            Ok(Some(piece.into()))
        }
        // Not in memory; or a filesystem that cannot tell; or a signal.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn read(file: &File, position: u64, wanted: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; wanted];
    loop {
        match file.read_at(&mut piece, position) {
            Ok(read) => {
                piece.truncate(read);
                return Ok(piece.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs what may wait for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::other(
            "cannot use the step's log: the program is stopping",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn log() -> (tempfile::TempDir, StepLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = StepLog::create(&dir.path().join("log")).await.unwrap();
        (dir, log)
    }

    async fn rest(mut reader: LogReader) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = within(reader.next()).await.unwrap() {
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        all
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future)
            .await
            .expect("nothing happened for too long")
    }

    #[tokio::test]
    async fn readers_follow_from_the_start_and_end_at_the_close() {
        let (_dir, log) = log().await;
        let mut early = log.reader();
        log.write("one\n").await.unwrap();
        assert_eq!(within(early.next()).await.unwrap().unwrap(), "one\n");
        let waiting = tokio::spawn(rest(early));
        log.write("two\n").await.unwrap();
        let late = log.reader();
        log.close();
        assert_eq!(waiting.await.unwrap(), b"two\n");
        assert_eq!(rest(late).await, b"one\ntwo\n");
        assert_eq!(rest(log.reader()).await, b"one\ntwo\n");
        assert_eq!(log.len(), 8);
    }

    #[tokio::test]
    async fn a_log_is_readable_after_its_directory_was_renamed() {
        let (dir, log) = log().await;
        log.write("before ").await.unwrap();
        let moved = dir.path().with_extension("moved");
        std::fs::rename(dir.path(), &moved).unwrap();
        let reader = log.reader();
        log.write("after").await.unwrap();
        log.close();
        assert_eq!(rest(reader).await, b"before after");
        assert_eq!(
            rest(StepLog::open(&moved.join("log")).await.unwrap().reader()).await,
            b"before after"
        );
        std::fs::remove_dir_all(&moved).unwrap();
    }

    #[tokio::test]
    async fn a_writer_that_dies_ends_its_readers() {
        let (_dir, log) = log().await;
        let reader = log.reader();
        let writer = tokio::spawn(async move {
            log.clone().write("last words").await.unwrap();
            panic!("dies");
        });
        assert_eq!(rest(reader).await, b"last words");
        assert!(writer.await.is_err());
    }

    #[tokio::test]
    async fn a_missing_file_is_an_empty_closed_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = StepLog::open(&dir.path().join("none")).await.unwrap();
        assert!(log.is_empty());
        assert_eq!(rest(log.reader()).await, b"");
    }

    #[tokio::test]
    async fn a_closed_log_takes_no_more() {
        let (_dir, log) = log().await;
        log.write("a").await.unwrap();
        log.close();
        let error = log.write("b").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(rest(log.reader()).await, b"a");
    }

    #[tokio::test]
    async fn bytes_that_are_not_text_come_back_as_they_are() {
        let (_dir, log) = log().await;
        let bytes: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
        log.write(bytes.clone()).await.unwrap();
        log.close();
        assert_eq!(rest(log.reader()).await, bytes);
    }

    #[tokio::test]
    async fn a_reader_who_gave_up_waiting_loses_nothing() {
        let (_dir, log) = log().await;
        let mut reader = log.reader();
        assert!(
            tokio::time::timeout(Duration::from_millis(1), reader.next())
                .await
                .is_err()
        );
        log.write("all of it").await.unwrap();
        log.close();
        assert_eq!(rest(reader).await, b"all of it");
    }

    #[tokio::test]
    async fn a_full_disk_ends_the_log_with_what_was_written() {
        // The device that is always full stands for the disk.
        let full = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/full")
            .unwrap();
        let log = StepLog::new(Some(full), Extent::default());
        let reader = log.reader();
        let error = log.write("x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(rest(reader).await, b"");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_who_does_not_read_slows_nobody() {
        let (_dir, log) = log().await;
        let idle = log.reader();
        let busy = tokio::spawn(rest(log.reader()));
        let mut expected = Vec::new();
        for line in 0..10_000 {
            let line = format!("line {line}\n");
            expected.extend_from_slice(line.as_bytes());
            within(log.write(line)).await.unwrap();
        }
        log.close();
        assert_eq!(busy.await.unwrap(), expected);
        assert_eq!(rest(idle).await, expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lines_of_several_writers_stay_whole() {
        let (_dir, log) = log().await;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let log = log.clone();
                tokio::spawn(async move {
                    for line in 0..200 {
                        let line = format!("{writer}:{line}:{}\n", "x".repeat(line));
                        log.write(line).await.unwrap();
                    }
                })
            })
            .collect();
        let reader = log.reader();
        drop(log);
        for writer in writers {
            writer.await.unwrap();
        }
        let all = String::from_utf8(rest(reader).await).unwrap();
        assert_eq!(all.lines().count(), 800);
        for line in all.lines() {
            let mut parts = line.split(':').skip(1);
            let number: usize = parts.next().unwrap().parse().unwrap();
            assert_eq!(parts.next().unwrap().len(), number);
        }
    }
}
