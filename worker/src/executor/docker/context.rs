//! Sends a build context to the engine as a tar stream, made on the fly: a context of any size takes little memory.
//!
//! Entries look as `docker build` makes them: modes, times and links as they are, everything owned by root. Sockets and devices are
//! left out. The stream ends early, and the thread that makes it with it, as soon as nobody reads it any more.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tar::{Builder, EntryType, Header};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ignore::Rules;
use super::walk::{self, Walk};

/// How much is handed to the connection at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// How many chunks may wait for the connection.
const PENDING: usize = 4;

/// A context on its way.
#[derive(Debug)]
pub(super) struct Sending {
    /// The thread that makes the stream; it ends with a sentence if something in the context cannot be sent.
    pub(super) thread: JoinHandle<Result<(), String>>,
    /// Breaks the stream when dropped. The connection cannot be relied on for that: it may be stuck, with an engine that reads no more.
    pub(super) abandon: DropGuard,
    sent: Arc<AtomicU64>,
}

impl Sending {
    /// How many bytes have been handed to the connection.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Starts to send the directory `root`, less what `rules` keep out.
pub(super) fn send(
    root: PathBuf,
    rules: Arc<Rules>,
) -> (
    Sending,
    impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) {
    let (chunks, mut receiver) = mpsc::channel(PENDING);
    let sent = Arc::new(AtomicU64::new(0));
    let abandoned = CancellationToken::new();
    let writer = ChunkWriter {
        chunks: chunks.clone(),
        buffer: BytesMut::new(),
        sent: Arc::clone(&sent),
        abandoned: abandoned.clone(),
        runtime: Handle::current(),
    };
    let stop = abandoned.clone();
    let thread = tokio::task::spawn_blocking(move || {
        let result = Archive::new(root, writer).write(&rules, &stop);
        if let Err(error) = &result {
            // A broken stream makes the engine drop what it has; a short one could pass for a whole context.
            let broken = chunks.send(Err(io::Error::other(error.clone())));
            let _ = Handle::current().block_on(stop.run_until_cancelled(broken));
        }
        result
    });
    let sending = Sending {
        thread,
        abandon: abandoned.clone().drop_guard(),
        sent,
    };
    let stream = futures::stream::poll_fn(move |cx| match receiver.poll_recv(cx) {
        // An early end must never pass for the whole context.
        Poll::Ready(_) if abandoned.is_cancelled() => {
            Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into())))
        }
        other => other,
    });
    (sending, stream)
}

struct Archive {
    root: PathBuf,
    tar: Builder<ChunkWriter>,
}

impl Archive {
    fn new(root: PathBuf, writer: ChunkWriter) -> Self {
        Self {
            root,
            tar: Builder::new(writer),
        }
    }

    fn write(mut self, rules: &Rules, abandoned: &CancellationToken) -> Result<(), String> {
        let root = self.root.clone();
        let walk = Walk {
            root: &root,
            rules,
            go_on: &|| {
                if abandoned.is_cancelled() {
                    let gone = io::Error::from(io::ErrorKind::BrokenPipe);
                    return Err(walk::cannot_send(Path::new("."), &gone));
                }
                Ok(())
            },
        };
        walk.run(&mut |path, metadata| {
            self.add_entry(path, metadata)
                .map_err(|error| walk::cannot_send(path, &error))
        })?;
        self.tar
            .into_inner()
            .and_then(|mut writer| writer.flush())
            .map_err(|error| walk::cannot_send(Path::new("."), &error))
    }

    fn add_entry(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_metadata(metadata);
        header.set_uid(0);
        header.set_gid(0);
        let name = path.as_os_str().as_bytes();
        let kind = metadata.file_type();
        if kind.is_file() {
            let file = walk::open(&self.root.join(path), metadata.len())?;
            self.append(header, name, None, file)
        } else if kind.is_dir() {
            self.append(header, name, None, io::empty())
        } else if kind.is_symlink() {
            let target = fs::read_link(self.root.join(path))?;
            self.append(
                header,
                name,
                Some(target.as_os_str().as_bytes()),
                io::empty(),
            )
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            self.append(header, name, None, io::empty())
        } else {
            Ok(())
        }
    }

    /// Appends an entry whose name and link target are kept byte for byte: they need be neither short, nor tidy, nor UTF-8.
    fn append(
        &mut self,
        mut header: Header,
        name: &[u8],
        target: Option<&[u8]>,
        data: impl Read,
    ) -> io::Result<()> {
        if !header.entry_type().is_file() {
            header.set_size(0);
        }
        if let Some(target) = target
            && header.set_link_name_literal(target).is_err()
        {
            self.append_long(EntryType::GNULongLink, target)?;
        }
        let field = &mut header.as_old_mut().name;
        if name.len() > field.len() {
            self.append_long(EntryType::GNULongName, name)?;
        }
        for (byte, value) in field.iter_mut().zip(name) {
            *byte = *value;
        }
        header.set_cksum();
        self.tar.append(&header, data)
    }

    /// Appends what does not fit the next entry's header, in the way of GNU tar.
    fn append_long(&mut self, kind: EntryType, value: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_path("@LongLink")?;
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(value.len() as u64 + 1);
        header.set_cksum();
        self.tar.append(&header, value.chain(&[0][..]))
    }
}

struct ChunkWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
    sent: Arc<AtomicU64>,
    abandoned: CancellationToken,
    runtime: Handle,
}

impl ChunkWriter {
    fn pass_on(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let passed = self.runtime.block_on(
            self.abandoned
                .run_until_cancelled(self.chunks.send(Ok(chunk))),
        );
        match passed {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            self.pass_on()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use futures::StreamExt;
    use tempfile::TempDir;

    use super::*;

    async fn archive_of(root: &Path, rules: Rules) -> (Vec<u8>, u64) {
        let (sending, stream) = send(root.to_owned(), Arc::new(rules));
        let chunks: Vec<_> = stream.collect().await;
        let bytes: Vec<u8> = chunks
            .into_iter()
            .flat_map(|chunk| chunk.unwrap())
            .collect();
        let sent = sending.sent();
        sending.thread.await.unwrap().unwrap();
        (bytes, sent)
    }

    type Entries = BTreeMap<Vec<u8>, (Header, Vec<u8>, Option<Vec<u8>>)>;

    fn entries(archive: &[u8]) -> Entries {
        let mut entries = Entries::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            let target = entry.link_name_bytes().map(|target| target.into_owned());
            entries.insert(
                entry.path_bytes().into_owned(),
                (entry.header().clone(), contents, target),
            );
        }
        entries
    }

    #[tokio::test]
    async fn a_single_small_file_takes_what_docker_says_it_takes() {
        let root = TempDir::new().unwrap();
        fs::write(root.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        let (archive, sent) = archive_of(root.path(), Rules::default()).await;
        assert_eq!(sent, 2048);
        assert_eq!(archive.len(), 2048);
    }

    #[tokio::test]
    async fn odd_names_modes_and_links_arrive_as_they_are_and_belong_to_root() {
        let root = TempDir::new().unwrap();
        let long = [&b"\xff"[..], &[b'n'; 200]].concat();
        for name in [
            &b"plain"[..],
            b"new\nline",
            b"bad\xff\xfe",
            b"-rf",
            b" space ",
            &long,
        ] {
            fs::write(root.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        fs::set_permissions(
            root.path().join("plain"),
            fs::Permissions::from_mode(0o4751),
        )
        .unwrap();
        let far = "x/".repeat(120);
        for (link, target) in [
            ("up", "../..//./outside"),
            ("dangling", "/nowhere"),
            ("far", &far),
        ] {
            symlink(target, root.path().join(link)).unwrap();
        }
        fs::create_dir(root.path().join("empty")).unwrap();
        let _socket = UnixListener::bind(root.path().join("socket")).unwrap();

        let entries = entries(&archive_of(root.path(), Rules::default()).await.0);
        for name in [
            &b"plain"[..],
            b"new\nline",
            b"bad\xff\xfe",
            b"-rf",
            b" space ",
            &long,
        ] {
            assert_eq!(entries[name].1, name);
        }
        assert_eq!(entries[&b"plain"[..]].0.mode().unwrap() & 0o7777, 0o4751);
        for (link, target) in [
            ("up", "../..//./outside"),
            ("dangling", "/nowhere"),
            ("far", &far),
        ] {
            assert_eq!(
                entries[link.as_bytes()].2.as_deref().unwrap(),
                target.as_bytes()
            );
        }
        assert_eq!(entries[&b"empty"[..]].0.entry_type(), EntryType::Directory);
        assert!(!entries.contains_key(&b"socket"[..]));
        assert!(
            entries
                .values()
                .all(|(header, ..)| header.uid().unwrap() == 0 && header.gid().unwrap() == 0)
        );
    }

    #[tokio::test]
    async fn a_file_of_more_than_8_gib_is_announced_with_its_size() {
        let root = TempDir::new().unwrap();
        let size = 9 << 30;
        File::create(root.path().join("big"))
            .unwrap()
            .set_len(size)
            .unwrap();
        let (sending, mut stream) = send(root.path().to_owned(), Arc::default());
        let first = stream.next().await.unwrap().unwrap();
        let header = Header::from_byte_slice(&first[..512]);
        assert_eq!(header.size().unwrap(), size);
        drop(stream);
        assert!(
            sending
                .thread
                .await
                .unwrap()
                .unwrap_err()
                .starts_with("cannot send \"big\"")
        );
        assert!(
            sending.sent.load(Ordering::Relaxed) < 1 << 20,
            "the rest was not read for nobody"
        );
    }

    #[tokio::test]
    async fn nothing_is_walked_through_for_nobody() {
        let root = TempDir::new().unwrap();
        // More than a chunk: whoever gets as far as this file names it.
        fs::write(root.path().join("big"), [0; 2 * CHUNK]).unwrap();
        let (chunks, mut receiver) = mpsc::channel(PENDING);
        let abandoned = CancellationToken::new();
        abandoned.cancel();
        let writer = ChunkWriter {
            chunks,
            buffer: BytesMut::new(),
            sent: Arc::default(),
            abandoned: abandoned.clone(),
            runtime: Handle::current(),
        };
        let archive = Archive::new(root.path().to_owned(), writer);
        let written =
            tokio::task::spawn_blocking(move || archive.write(&Rules::default(), &abandoned));
        let error = written.await.unwrap().unwrap_err();
        assert_eq!(
            error,
            "cannot send \".\" of the build context to the Docker engine: broken pipe"
        );
        assert!(receiver.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_file_that_shrinks_breaks_the_stream_instead_of_garbling_it() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("log");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let (sending, mut stream) = send(root.path().to_owned(), Arc::default());
        stream.next().await.unwrap().unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1)
            .unwrap();
        let chunks: Vec<_> = stream.collect().await;
        let error = chunks.last().unwrap().as_ref().unwrap_err().to_string();
        assert!(
            error.ends_with("it shrank while it was being sent"),
            "{error}"
        );
        assert_eq!(sending.thread.await.unwrap().unwrap_err(), error);
    }
}
