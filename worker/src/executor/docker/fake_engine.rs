//! An engine for unit tests, which answers each request as the test says. It must never be part of the product.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bollard::{API_DEFAULT_VERSION, Docker};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// A socket with an engine behind it that has no images.
pub(super) struct FakeEngine {
    directory: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeEngine {
    /// Answers with what `answer` makes of `METHOD /path?query`: a status and a body.
    pub(super) fn start(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, noted) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (answer, noted) = (Arc::clone(&answer), Arc::clone(&noted));
                tokio::spawn(async move { serve(connection, &*answer, &noted).await });
            }
        });
        Self { directory, asked }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    pub(super) fn connect(&self) -> Docker {
        let socket = self.socket();
        Docker::connect_with_unix(&socket.to_string_lossy(), 60, API_DEFAULT_VERSION).unwrap()
    }

    /// Whether there was a request that begins like this.
    pub(super) fn was_asked(&self, request: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|asked| asked.starts_with(request))
    }
}

/// Serves one request.
async fn serve(
    mut connection: UnixStream,
    answer: impl Fn(&str) -> (u16, String),
    noted: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    // Client libraries put the version of the interface first.
    let path = path
        .strip_prefix("/v")
        .and_then(|path| path.find('/').map(|slash| &path[slash..]))
        .unwrap_or(path);
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned))
    };
    if let Some(length) = header("content-length: ") {
        let mut body = vec![0; length.parse().unwrap()];
        connection.read_exact(&mut body).await.ok()?;
    } else if header("transfer-encoding: chunked").is_some() {
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(connection.read_u8().await.ok()?);
        }
    }
    let request = format!("{method} {path}");
    noted.lock().unwrap().push(request.clone());
    let (status, body) = answer(&request);
    let answer = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes()).await.ok()
}
