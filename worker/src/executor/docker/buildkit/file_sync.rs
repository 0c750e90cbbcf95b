//! Sends a build's files to BuildKit, which asks for the Dockerfile and for the context by name.
//!
//! The exchange is BuildKit's: we describe every entry, numbered from zero, in the order of the walk; the engine asks for the
//! contents of some by number; it says when it has all. A file is read while it is sent, a piece at a time, so that a context of any size takes
//! little memory.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::grpc::{self, Body, Code, Status, Unframed};
use super::wanted::{Wanted, wanted};
use crate::executor::Failure;
use crate::executor::docker::ignore::{self, Rules};
use crate::executor::docker::walk::{self, Walk};

/// How much of a file is in one message, in bytes.
const PIECE: usize = 32 * 1024;
/// How many messages may wait for the connection.
const PENDING: usize = 8;

// Kinds of files in Go's encoding.
const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
const PIPE: u32 = 1 << 25;
const SET_USER: u32 = 1 << 23;
const SET_GROUP: u32 = 1 << 22;
const STICKY: u32 = 1 << 20;

/// The files of one build.
#[derive(Debug)]
pub(super) struct Context {
    files: Arc<Files>,
    trouble: Arc<OnceLock<Failure>>,
}

#[derive(Debug)]
struct Files {
    root: PathBuf,
    rules: Rules,
    /// The Dockerfile's directory inside the context; empty for the context itself.
    dockerfile_directory: PathBuf,
    /// The Dockerfile's name there.
    dockerfile_name: String,
    /// Nobody wants the files any more.
    abandoned: CancellationToken,
}

impl Context {
    /// The context in the directory `root`, less what `rules` keep out, with its Dockerfile at the path `dockerfile`.
    pub(super) fn new(root: &Path, rules: Rules, dockerfile: &str) -> Self {
        let (directory, name) = dockerfile.rsplit_once('/').unwrap_or(("", dockerfile));
        Self {
            files: Arc::new(Files {
                root: root.to_owned(),
                rules,
                dockerfile_directory: PathBuf::from(directory),
                dockerfile_name: name.to_owned(),
                abandoned: CancellationToken::new(),
            }),
            trouble: Arc::default(),
        }
    }

    /// Ends the threads that send files, once it is dropped: they may walk for long before they notice that the connection is gone.
    pub(super) fn abandon(&self) -> DropGuard {
        self.files.abandoned.clone().drop_guard()
    }

    /// What went wrong on this side, if anything did: the first such failure.
    pub(super) fn trouble(&self) -> Option<&Failure> {
        self.trouble.get()
    }
}

/// Serves one exchange.
pub(super) fn serve(request: Request<Incoming>, context: &Context) -> Response<Body> {
    let wanted = match wanted(request.headers(), &context.files.root) {
        Ok(wanted) => wanted,
        Err(status) => return grpc::answer(Err(status)),
    };
    let (messages, mut outgoing) = mpsc::channel(PENDING);
    let (asked, questions) = mpsc::unbounded_channel();
    // Ends with the connection, or with the last reader of the questions.
    tokio::spawn(listen(request.into_body(), asked));
    let (files, trouble) = (Arc::clone(&context.files), Arc::clone(&context.trouble));
    tokio::task::spawn_blocking(move || {
        let mut sender = Sender::new(&files, &messages);
        let trailers = match sender.exchange(wanted, questions) {
            Ok(()) => Status::headers(Code::Ok, ""),
            Err(Stop::HungUp) => return,
            Err(Stop::Trouble(failure)) => {
                let trailers = Status::headers(Code::Unknown, &failure.message);
                let _ = trouble.set(failure);
                trailers
            }
        };
        let _ = messages.blocking_send(Frame::trailers(trailers));
    });
    grpc::stream(futures::stream::poll_fn(move |cx| outgoing.poll_recv(cx)))
}

/// What the engine says in an exchange.
enum Question {
    /// It wants the contents of the entry of this number.
    File(u32),
    /// It has all.
    Finished,
}

/// Passes the engine's questions on. There are no more of them than files.
async fn listen(mut body: Incoming, asked: mpsc::UnboundedSender<Question>) {
    let mut unframed = Unframed::default();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            unframed.push(&data);
        }
        loop {
            let question = match unframed.next::<Packet>() {
                Ok(None) => break,
                Ok(Some(packet)) => match PacketType::try_from(packet.r#type) {
                    Ok(PacketType::PacketReq) => Question::File(packet.id),
                    Ok(PacketType::PacketFin) => Question::Finished,
                    // It has failed, and will say so in the build's answer; or it speaks no language that we know.
                    _ => return,
                },
                Err(_) => return,
            };
            if asked.send(question).is_err() {
                return;
            }
        }
    }
}

/// Why an exchange ends early.
enum Stop {
    /// The engine is gone, or wants nothing more.
    HungUp,
    /// Something cannot be sent.
    Trouble(Failure),
}

impl From<String> for Stop {
    /// What goes wrong while files are read is nobody's mistake.
    fn from(sentence: String) -> Self {
        Self::Trouble(Failure::setup(sentence))
    }
}

struct Sender<'a> {
    files: &'a Files,
    messages: &'a mpsc::Sender<Frame<Bytes>>,
    /// Regular files, by number.
    requestable: Vec<(u32, PathBuf, u64)>,
    /// How many entries have been described.
    count: u32,
    /// The directories that have been described and lead to the latest entry.
    open: Vec<PathBuf>,
}

impl<'a> Sender<'a> {
    fn new(files: &'a Files, messages: &'a mpsc::Sender<Frame<Bytes>>) -> Self {
        Self {
            files,
            messages,
            requestable: Vec::new(),
            count: 0,
            open: Vec::new(),
        }
    }

    fn exchange(
        &mut self,
        wanted: Wanted,
        mut questions: mpsc::UnboundedReceiver<Question>,
    ) -> Result<(), Stop> {
        self.describe(wanted)?;
        self.send(PacketType::PacketStat, 0, None, Vec::new())?;
        while let Some(question) = questions.blocking_recv() {
            match question {
                Question::File(id) => self.send_file(id)?,
                Question::Finished => {
                    return self.send(PacketType::PacketFin, 0, None, Vec::new());
                }
            }
        }
        Err(Stop::HungUp)
    }

    fn describe(&mut self, wanted: Wanted) -> Result<(), Stop> {
        let files = self.files;
        let name = &files.dockerfile_name;
        match wanted {
            Wanted::Dockerfile => {
                let directory = files.root.join(&files.dockerfile_directory);
                let mut names = [name.clone(), format!("{name}{}", ignore::NAME)];
                names.sort_unstable();
                self.describe_files(&directory, &names)
            }
            Wanted::Context(only) => {
                let is_wanted = |path: &Path| match &only {
                    Some(paths) => paths.iter().any(|wanted| path.starts_with(wanted)),
                    None => true,
                };
                let messages = self.messages;
                let walk = Walk {
                    root: &files.root,
                    rules: &files.rules,
                    go_on: &|| {
                        if messages.is_closed() || files.abandoned.is_cancelled() {
                            return Err(Stop::HungUp);
                        }
                        Ok(())
                    },
                };
                walk.run(&mut |path, metadata| {
                    if is_wanted(path) {
                        self.describe_with_parents(path, metadata)
                    } else {
                        Ok(())
                    }
                })
            }
        }
    }

    /// Describes those of the named files that are there.
    fn describe_files(&mut self, directory: &Path, names: &[String]) -> Result<(), Stop> {
        for name in names {
            let path = directory.join(name);
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    self.describe_entry(directory, Path::new(name), &metadata)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Describes an entry of the context, and before it those directories on the way to it that the rules keep out: BuildKit takes
    /// nothing without its directory.
    fn describe_with_parents(&mut self, path: &Path, metadata: &Metadata) -> Result<(), Stop> {
        while self.open.last().is_some_and(|last| !path.starts_with(last)) {
            self.open.pop();
        }
        let root = &self.files.root;
        let known = self.open.last().map_or(0, |last| last.components().count());
        let missing: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .filter(|parent| parent.components().count() > known)
            .collect();
        for parent in missing.into_iter().rev() {
            let metadata = std::fs::symlink_metadata(root.join(parent))
                .map_err(|error| walk::cannot_send(parent, &error))?;
            self.describe_entry(root, parent, &metadata)?;
            self.open.push(parent.to_owned());
        }
        self.describe_entry(root, path, metadata)?;
        if metadata.is_dir() {
            self.open.push(path.to_owned());
        }
        Ok(())
    }

    fn describe_entry(
        &mut self,
        root: &Path,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), Stop> {
        let trouble = |reason: &dyn std::fmt::Display| walk::cannot_send(path, reason);
        let not_utf8 = || Stop::Trouble(Failure::request(trouble(&NOT_UTF8)));
        let kind = metadata.file_type();
        let (mode, linkname) = if kind.is_dir() {
            (DIRECTORY, String::new())
        } else if kind.is_symlink() {
            let target = std::fs::read_link(root.join(path)).map_err(|error| trouble(&error))?;
            let target = target.into_os_string().into_string();
            (LINK, target.map_err(|_| not_utf8())?)
        } else if kind.is_fifo() {
            (PIPE, String::new())
        } else if kind.is_file() {
            (0, String::new())
        } else {
            // Sockets and devices are left out.
            return Ok(());
        };
        let stat = Stat {
            path: path.to_str().ok_or_else(not_utf8)?.to_owned(),
            mode: mode | permissions(metadata.permissions().mode()),
            size: if kind.is_file() {
                i64::try_from(metadata.len()).unwrap_or(i64::MAX)
            } else {
                0
            },
            mod_time: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            linkname,
            // Everything belongs to root.
            ..Stat::default()
        };
        self.send(PacketType::PacketStat, 0, Some(stat), Vec::new())?;
        if kind.is_file() {
            self.requestable
                .push((self.count, root.join(path), metadata.len()));
        }
        self.count = self
            .count
            .checked_add(1)
            .ok_or_else(|| trouble(&"there are too many files"))?;
        Ok(())
    }

    fn send_file(&self, id: u32) -> Result<(), Stop> {
        let found = self.requestable.binary_search_by_key(&id, |(id, ..)| *id);
        let Some((_, path, size)) = found.ok().and_then(|index| self.requestable.get(index)) else {
            return Err(Stop::from(format!(
                "the Docker engine asks for number {id} of the build context, which is no file"
            )));
        };
        let trouble = |error: std::io::Error| {
            let path = path.strip_prefix(&self.files.root).unwrap_or(path);
            Stop::from(walk::cannot_send(path, &error))
        };
        let mut file = walk::open(path, *size).map_err(trouble)?;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let count = (&mut file)
                .take(PIECE as u64)
                .read_to_end(&mut piece)
                .map_err(trouble)?;
            // An empty piece is the file's end.
            self.send(PacketType::PacketData, id, None, piece)?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn send(
        &self,
        kind: PacketType,
        id: u32,
        stat: Option<Stat>,
        data: Vec<u8>,
    ) -> Result<(), Stop> {
        let packet = Packet {
            r#type: kind.into(),
            stat,
            id,
            data,
        };
        self.messages
            .blocking_send(Frame::data(grpc::frame(&packet)))
            .map_err(|_| Stop::HungUp)
    }
}

const NOT_UTF8: &str = "BuildKit takes only names in UTF-8; the classic builder takes any";

/// Permissions in Go's encoding.
fn permissions(mode: u32) -> u32 {
    let flags = [(0o4000, SET_USER), (0o2000, SET_GROUP), (0o1000, STICKY)];
    flags
        .iter()
        .filter(|(unix, _)| mode & unix != 0)
        .fold(mode & 0o777, |mode, (_, go)| mode | go)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::executor::Cause;

    /// Why the description of the context at `root` ends early.
    fn trouble(root: &Path) -> Failure {
        let context = Context::new(root, Rules::default(), "Dockerfile");
        let (messages, _outgoing) = mpsc::channel(PENDING);
        let mut sender = Sender::new(&context.files, &messages);
        match sender.describe(Wanted::Context(None)) {
            Err(Stop::Trouble(failure)) => failure,
            Err(Stop::HungUp) => panic!("it hung up"),
            Ok(()) => panic!("it was described"),
        }
    }

    #[test]
    fn a_name_that_buildkit_does_not_take_is_the_job_s_fault() {
        let bad = OsStr::from_bytes(b"bad\xff");
        let root = TempDir::new().unwrap();
        fs::write(root.path().join(bad), "").unwrap();
        let named = trouble(root.path());
        let root = TempDir::new().unwrap();
        symlink(bad, root.path().join("link")).unwrap();
        let linked = trouble(root.path());
        for failure in [named, linked] {
            assert_eq!(failure.cause, Cause::Request, "{failure:?}");
            assert!(failure.message.ends_with(NOT_UTF8), "{failure:?}");
        }
    }

    #[test]
    fn nothing_is_walked_through_for_nobody() {
        let root = TempDir::new().unwrap();
        fs::write(root.path().join(".dockerignore"), "*").unwrap();
        let rules = Rules::of_buildkit_context(root.path(), "Dockerfile").unwrap();
        let describe = |context: &Context, messages: &mpsc::Sender<_>| {
            Sender::new(&context.files, messages).describe(Wanted::Context(None))
        };
        let context = Context::new(root.path(), rules, "Dockerfile");
        let (messages, outgoing) = mpsc::channel(PENDING);
        assert!(describe(&context, &messages).is_ok());
        drop(outgoing);
        assert!(matches!(describe(&context, &messages), Err(Stop::HungUp)));
        let (messages, _outgoing) = mpsc::channel(PENDING);
        assert!(describe(&context, &messages).is_ok());
        drop(context.abandon());
        assert!(matches!(describe(&context, &messages), Err(Stop::HungUp)));
    }

    #[test]
    fn what_cannot_be_read_is_not_the_job_s_fault() {
        let root = TempDir::new().unwrap();
        let failure = trouble(&root.path().join("gone"));
        assert_eq!(failure.cause, Cause::Setup, "{failure:?}");
    }

    #[test]
    fn modes_are_written_as_go_does() {
        assert_eq!(permissions(0o100_644), 0o644);
        assert_eq!(permissions(0o104_755), 0o755 | SET_USER);
        assert_eq!(permissions(0o043_777), 0o777 | SET_GROUP | STICKY);
    }
}
