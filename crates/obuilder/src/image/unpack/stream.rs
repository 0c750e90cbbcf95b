//! A layer's bytes on their way into the unpacker: decompressed on a thread of its own, their digests taken as they pass.
//!
//! A digest that does not match is what is reported, whatever else went wrong: wrong bytes explain everything.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Expected, UnpackError};

/// What passes between the threads at once.
const PIECE: usize = 256 * 1024;
/// How many pieces may wait.
const PIECES: usize = 8;
/// The largest window of zstd that is accepted, as a power of two: 128 MiB, which is the format's own advice.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Tells from the first bytes (six are enough) how the rest is compressed.
///
/// # Errors
/// The name of a compression that is known and not supported.
pub(crate) fn detect(start: &[u8]) -> Result<Compression, &'static str> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err("xz"),
        [b'B', b'Z', b'h', ..] => Err("bzip2"),
        _ => Ok(Compression::None),
    }
}

/// Decompresses what `source` gives, if it is compressed.
pub(crate) fn decompress<'a>(
    mut source: impl Read + Send + 'a,
) -> Result<Box<dyn Read + Send + 'a>, UnpackError> {
    let mut start = Vec::with_capacity(6);
    (&mut source)
        .take(6)
        .read_to_end(&mut start)
        .map_err(UnpackError::Read)?;
    let compression = detect(&start).map_err(|name| {
        UnpackError::Refused(format!(
            "it is compressed with {name}; gzip, zstd and none are supported"
        ))
    })?;
    let whole = BufReader::with_capacity(PIECE, io::Cursor::new(start).chain(source));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(whole).map_err(UnpackError::Read)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(UnpackError::Read)?;
            Box::new(decoder)
        }
    })
}

/// Calls `work` with the tar within `source`, reads on to its end, and compares. Returns what `work` did, the tar's SHA-256 and its
/// length.
pub(super) fn stream<T>(
    source: impl Read + Send,
    expected: Expected,
    limit: u64,
    cancel: &CancellationToken,
    work: impl FnOnce(&mut TarStream) -> Result<T, UnpackError>,
) -> Result<(T, [u8; 32], u64), UnpackError> {
    let (send, pieces) = sync_channel(PIECES);
    let (give_back, empty) = sync_channel(PIECES + 2);
    thread::scope(|scope| {
        let producer = Producer {
            send,
            empty,
            limit,
            cancel,
            expected,
        };
        let producer = thread::Builder::new()
            .name("unpack".into())
            .spawn_scoped(scope, move || producer.run(source))
            .map_err(UnpackError::Read)?;
        let mut tar = TarStream {
            pieces,
            give_back,
            piece: Vec::new(),
            at: 0,
        };
        let done = work(&mut tar).and_then(|done| {
            tar.drain().map_err(UnpackError::Read)?;
            Ok(done)
        });
        drop(tar);
        let produced = match producer.join() {
            Ok(produced) => produced,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (produced, done) {
            (Ok((diff_id, length)), Ok(done)) => Ok((done, diff_id, length)),
            // The worker gave up first, and what it says is why.
            (Ok(_) | Err(Fault::NobodyReads), Err(error)) => Err(error),
            (Err(Fault::Error(error)), _) => Err(error),
            (Err(Fault::NobodyReads), Ok(_)) => {
                Err(UnpackError::Damaged("it has no end".to_owned()))
            }
        }
    })
}

enum Fault {
    NobodyReads,
    Error(UnpackError),
}

impl From<UnpackError> for Fault {
    fn from(error: UnpackError) -> Self {
        Self::Error(error)
    }
}

/// The side that decompresses.
struct Producer<'a> {
    /// An error here is only a mark: the fault itself is the thread's result.
    send: SyncSender<Option<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    limit: u64,
    cancel: &'a CancellationToken,
    expected: Expected,
}

impl Producer<'_> {
    fn run(self, source: impl Read + Send) -> Result<([u8; 32], u64), Fault> {
        let mut source = Hashing {
            source,
            hash: self.expected.digest.map(|_| Sha256::new()),
            failed: None,
        };
        let made = self.decompress(&mut source);
        let cancelled = matches!(&made, Err(Fault::Error(UnpackError::Cancelled)));
        let compared = if cancelled {
            Ok(())
        } else {
            self.compare(&mut source)
        };
        let made = match (compared, source.failed) {
            (Err(error), _) => Err(error.into()),
            // The decoder wraps what the disk said.
            (Ok(()), Some(error)) => Err(Fault::Error(UnpackError::Read(error))),
            (Ok(()), None) => made,
        };
        if made.is_err() {
            let _ = self.send.send(None);
        }
        made
    }

    fn decompress(&self, source: &mut (impl Read + Send)) -> Result<([u8; 32], u64), Fault> {
        let mut tar = decompress(source)?;
        let mut hash = Sha256::new();
        let mut length = 0_u64;
        loop {
            if self.cancel.is_cancelled() {
                return Err(UnpackError::Cancelled.into());
            }
            let mut piece = self.empty.try_recv().unwrap_or_default();
            piece.clear();
            let got = (&mut tar)
                .take(PIECE as u64)
                .read_to_end(&mut piece)
                .map_err(|error| {
                    UnpackError::Damaged(format!("it cannot be decompressed: {error}"))
                })?;
            if got == 0 {
                break;
            }
            length += got as u64;
            if length > self.limit {
                return Err(UnpackError::Refused(format!(
                    "it has more than {} bytes, decompressed",
                    self.limit
                ))
                .into());
            }
            hash.update(&piece);
            if self.send.send(Some(piece)).is_err() {
                return Err(Fault::NobodyReads);
            }
        }
        let found = hash.finalize().into();
        match self.expected.diff_id {
            Some(expected) if expected != found => Err(UnpackError::Digest {
                what: "diff id",
                expected,
                found,
            }
            .into()),
            _ => Ok((found, length)),
        }
    }

    /// Reads what the decoder left, so that the digest is one of all bytes.
    fn compare(&self, source: &mut Hashing<impl Read>) -> Result<(), UnpackError> {
        let Some(expected) = self.expected.digest else {
            return Ok(());
        };
        let mut rest = vec![0; PIECE];
        while source.failed.is_none() {
            if self.cancel.is_cancelled() {
                return Err(UnpackError::Cancelled);
            }
            match source.read(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
        match source.hash.take() {
            Some(hash) if source.failed.is_none() => {
                let found: [u8; 32] = hash.finalize().into();
                if found == expected {
                    return Ok(());
                }
                Err(UnpackError::Digest {
                    what: "digest",
                    expected,
                    found,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Takes the digest of what is read, and remembers what went wrong below the decoder.
struct Hashing<R> {
    source: R,
    hash: Option<Sha256>,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.source.read(buffer) {
            Ok(got) => {
                if let (Some(hash), Some(read)) = (&mut self.hash, buffer.get(..got)) {
                    hash.update(read);
                }
                Ok(got)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::from(error.kind());
                self.failed = Some(error);
                Err(copy)
            }
        }
    }
}

/// The tar, as it arrives.
pub(super) struct TarStream {
    pieces: Receiver<Option<Vec<u8>>>,
    give_back: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl TarStream {
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let here = self.fill_buf()?.len();
            if here == 0 {
                return Ok(());
            }
            self.consume(here);
        }
    }
}

impl BufRead for TarStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.piece.len() {
            match self.pieces.recv() {
                Ok(Some(next)) => {
                    let old = std::mem::replace(&mut self.piece, next);
                    let _ = self.give_back.try_send(old);
                    self.at = 0;
                }
                Ok(None) => return Err(io::Error::other("the layer cannot be read to its end")),
                Err(_) => {
                    self.piece.clear();
                    self.at = 0;
                }
            }
        }
        Ok(self.piece.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.at.saturating_add(amount).min(self.piece.len());
    }
}

impl Read for TarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.fill_buf()?.read(buffer)?;
        self.consume(got);
        Ok(got)
    }
}
