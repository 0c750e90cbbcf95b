//! An engine that misbehaves on purpose, in ways that a real one cannot be asked to.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ocluster_worker::executor::{DockerConfig, DockerExecutor, EngineAddress};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

/// What the fake does with a build.
#[derive(Clone)]
pub enum Build {
    /// Takes this many bytes of the context, and then no more.
    StopReading(u64),
    /// Takes the whole context and sends these pieces, each by itself, as the answer.
    Answer(Vec<&'static str>),
    /// The same, with the next of these answers for each build, and the last of them for ever.
    Answers(Arc<Mutex<VecDeque<Vec<&'static str>>>>),
}

impl Build {
    /// Each build gets the next of `answers`.
    pub fn answers<const N: usize>(answers: [Vec<&'static str>; N]) -> Self {
        Self::Answers(Arc::new(Mutex::new(answers.into())))
    }
}

/// A socket with a fake engine behind it.
pub struct FakeEngine {
    _directory: TempDir,
    pub socket: PathBuf,
    /// Tells that a build has reached the point where the fake stops reading.
    pub stopped_reading: Arc<Notify>,
    /// Makes that build read again, to the end.
    pub resume: Arc<Notify>,
    /// Set once the client has hung up on that build.
    pub hung_up: Arc<AtomicBool>,
    /// Bytes of context taken.
    pub taken: Arc<AtomicU64>,
}

impl FakeEngine {
    pub fn start(build: Build) -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = Self {
            _directory: directory,
            socket,
            stopped_reading: Arc::default(),
            resume: Arc::default(),
            hung_up: Arc::default(),
            taken: Arc::default(),
        };
        let state = (
            Arc::clone(&engine.stopped_reading),
            Arc::clone(&engine.resume),
            Arc::clone(&engine.hung_up),
            Arc::clone(&engine.taken),
        );
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (build, state) = (build.clone(), state.clone());
                tokio::spawn(async move { serve(connection, build, state).await });
            }
        });
        engine
    }

    pub fn executor(&self) -> DockerExecutor {
        DockerExecutor::new(DockerConfig {
            engine: EngineAddress::Unix(self.socket.clone()),
            ..Default::default()
        })
    }
}

type State = (Arc<Notify>, Arc<Notify>, Arc<AtomicBool>, Arc<AtomicU64>);

async fn serve(
    mut connection: UnixStream,
    build: Build,
    (stopped, resume, hung_up, taken): State,
) -> Option<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        request.push(connection.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).unwrap();
    let answer = if request.contains("/_ping") {
        "OK"
    } else if request.contains("/version") {
        r#"{"Version":"1","ApiVersion":"1.41"}"#
    } else if request.contains("/session") {
        let refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        return connection.write_all(refusal).await.ok();
    } else {
        let build = match build {
            Build::Answers(answers) => {
                let mut answers = answers.lock().unwrap();
                match answers.len() {
                    1 => Build::Answer(answers[0].clone()),
                    _ => Build::Answer(answers.pop_front().unwrap()),
                }
            }
            other => other,
        };
        match build {
            Build::Answers(_) => unreachable!("it was replaced by one of them"),
            Build::StopReading(limit) => {
                let mut buffer = vec![0; 8192];
                while taken.load(Ordering::Relaxed) < limit {
                    let count = connection.read(&mut buffer).await.ok()?;
                    taken.fetch_add(count as u64, Ordering::Relaxed);
                }
                stopped.notify_one();
                resume.notified().await;
                while let Ok(count @ 1..) = connection.read(&mut buffer).await {
                    taken.fetch_add(count as u64, Ordering::Relaxed);
                }
                hung_up.store(true, Ordering::Relaxed);
                stopped.notify_one();
            }
            Build::Answer(pieces) => {
                let mut seen = Vec::new();
                while !seen.ends_with(b"0\r\n\r\n") {
                    seen.push(connection.read_u8().await.ok()?);
                }
                connection
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await
                    .ok()?;
                for piece in pieces {
                    connection
                        .write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
                        .await
                        .ok()?;
                    connection.flush().await.ok()?;
                    // Let the client take each piece by itself.
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                }
                connection.write_all(b"0\r\n\r\n").await.ok()?;
            }
        }
        return Some(());
    };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    connection.write_all(answer.as_bytes()).await.ok()
}
