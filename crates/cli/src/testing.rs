//! For tests of the programs: a server with one object on a free port, and a shell that records what a program does.
//!
//! Only tests see this, so it fails by panicking.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use capnp::capability::Client;
use futures::future::LocalBoxFuture;
use ocluster_vat::{
    Address, Connection, Digest, Limits, Listener, Location, RestoreError, Restorer, SecretKey,
    Server, ServiceId, Stats, SturdyRef,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The id under which [`TestServer`] offers its object.
const ID: &[u8] = b"the secret of the object";

/// A server with one object, on a thread of its own. It stops when dropped.
pub struct TestServer {
    /// Leads to the object.
    pub cap: SturdyRef,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct OneObject(Client);

impl Restorer for OneObject {
    fn restore<'a>(
        &'a self,
        _: &'a Connection,
        id: &'a [u8],
    ) -> LocalBoxFuture<'a, Result<Client, RestoreError>> {
        let found = if id == ID {
            Ok(self.0.clone())
        } else {
            Err(RestoreError::Unknown)
        };
        Box::pin(std::future::ready(found))
    }
}

impl TestServer {
    /// Serves the object that `make` makes, on the server's thread, with this key or without TLS.
    pub fn start(key: Option<SecretKey>, make: impl FnOnce() -> Client + Send + 'static) -> Self {
        Self::start_at(&Location::tcp("127.0.0.1", 0), key, make)
    }

    /// The same at this place, which may be where another one was before.
    pub fn start_at(
        place: &Location,
        key: Option<SecretKey>,
        make: impl FnOnce() -> Client + Send + 'static,
    ) -> Self {
        let place = place.clone();
        let stop = CancellationToken::new();
        let (bound, location) = mpsc::channel();
        let digest = key.as_ref().map_or(Digest::Insecure, SecretKey::digest);
        let shutdown = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let io = runtime.handle().clone();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let listener = Listener::bind(&place).unwrap();
                bound.send(listener.local_location().clone()).unwrap();
                let restorer = Rc::new(OneObject(make()));
                let server = Server {
                    listener,
                    key,
                    limits: Limits::default(),
                    restorer,
                    stats: Stats::new(),
                    io,
                };
                server.run(shutdown).await.unwrap();
            });
        });
        let address = Address::new(location.recv().unwrap(), digest);
        Self {
            cap: SturdyRef {
                address,
                id: ServiceId::new(ID),
            },
            stop,
            thread: Some(thread),
        }
    }

    /// The same object, but under another secret.
    pub fn wrong_id(&self) -> SturdyRef {
        SturdyRef {
            address: self.cap.address.clone(),
            id: ServiceId::new(b"not the secret".as_slice()),
        }
    }

    /// The same object, but as if another key were expected there.
    pub fn wrong_digest(&self, digest: Digest) -> SturdyRef {
        SturdyRef {
            address: Address::new(self.cap.address.location.clone(), digest),
            id: self.cap.id.clone(),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been printed; panicking again here would hide the test's own.
            drop(thread.join());
        }
    }
}

/// Runs one program in a directory of its own.
pub struct Shell {
    program: PathBuf,
    directory: TempDir,
}

impl Shell {
    /// A shell for `program`, given by its path.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.into(),
            directory: TempDir::new().unwrap(),
        }
    }

    /// Creates a file in the directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.directory.path().join(name), content).unwrap();
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The program with these arguments, separated by single spaces, its output in pipes.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args.split(' ').filter(|arg| !arg.is_empty()))
            .current_dir(self.directory.path())
            .env_remove("COLUMNS")
            .env_remove("NO_COLOR")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program, and tells the command line, what it printed and how it ended, for a snapshot.
    pub fn run(&self, args: &str) -> String {
        let output = self.command(args).output().unwrap();
        let name = self.program.file_name().unwrap().to_string_lossy();
        transcript(&format!("{name} {args}"), &output)
    }

    /// Several runs, one after the other.
    pub fn run_all<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> String {
        let transcripts: Vec<String> = lines.into_iter().map(|args| self.run(args)).collect();
        transcripts.join("\n")
    }
}

/// What a program printed and how it ended, without what differs from run to run: ports and fingerprints.
pub fn transcript(command_line: &str, output: &Output) -> String {
    let mut text = format!("$ {command_line}\n");
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            text.push_str(&format!("--- {name}\n{}", String::from_utf8_lossy(bytes)));
            if !text.ends_with('\n') {
                text.push_str("(no line feed)\n");
            }
        }
    }
    text.push_str(&format!("--- {}\n", output.status));
    for before_port in ["127.0.0.1:", "follows port "] {
        text = mask(&text, before_port, "PORT", |c| c.is_ascii_digit());
    }
    mask(&text, "sha-256:", "FINGERPRINT", |c| {
        c.is_ascii_alphanumeric() || c == '-' || c == '_'
    })
}

/// Replaces what follows `marker`, as long as it consists of `masked` characters.
fn mask(text: &str, marker: &str, replacement: &str, masked: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(marker);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(marker);
        let rest = part.trim_start_matches(&masked);
        if rest.len() < part.len() {
            result.push_str(replacement);
        }
        result.push_str(rest);
    }
    result
}
