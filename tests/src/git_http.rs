//! Git over smart HTTP: the real `git http-backend`, behind the smallest HTTP server that can carry it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::programs::need_program;

/// How long a client may keep a connection silent.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// A running server for every repository below a directory.
pub struct GitHttp {
    port: u16,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl GitHttp {
    /// Serves the repositories below `root` on loopback.
    ///
    /// # Errors
    ///
    /// When git is not installed or there is no free port.
    pub fn start(root: &Path) -> Result<Self> {
        let git = need_program("git", "git")?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, root) = (Arc::clone(&stop), root.to_owned());
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (git, root) = (git.clone(), root.clone());
                // A client that goes away mid-request ends its own thread only.
                thread::spawn(move || serve(stream, &git, &root));
            }
        });
        Ok(Self {
            port,
            stop,
            acceptor: Some(acceptor),
        })
    }

    /// The URL of the repository `name`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for GitHttp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // This connection wakes the acceptor, so that it sees the flag.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

/// One request.
struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn serve(mut stream: TcpStream, git: &Path, root: &Path) -> Result<()> {
    stream.set_read_timeout(Some(READ_LIMIT))?;
    let request = read_request(&stream)?;
    let answer = run_backend(&request, git, &root.to_owned())?;
    let split = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("an answer without a header")?;
    let (head, body) = answer.split_at(split + 4);
    let head = String::from_utf8_lossy(head);
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK")
        .to_owned();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    )?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(())
}

fn read_request(stream: &TcpStream) -> Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        bail!("not a request: {line:?}")
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if headers
        .get("transfer-encoding")
        .is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16)?;
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length") {
        reader
            .by_ref()
            .take(length.parse()?)
            .read_to_end(&mut body)?;
    }
    Ok(Request {
        method,
        path,
        query,
        headers,
        body,
    })
}

/// Runs the backend as a web server would (RFC 3875) and returns its answer: header, empty line, body.
fn run_backend(request: &Request, git: &Path, root: &PathBuf) -> Result<Vec<u8>> {
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    let mut child = Command::new(git)
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a child without stdin")?;
    let body = request.body.clone();
    // The backend may answer before it has read everything.
    let writer = thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output()?;
    let _ = writer.join();
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::command::run;
    use crate::git::{GitDaemon, Repository};
    use crate::scratch::Scratch;

    fn clones(url: &str, scratch: &Scratch, name: &str) -> String {
        let target = scratch.join(name);
        run(Command::new("git").args(["clone", "-q", url]).arg(&target))
            .unwrap()
            .success()
            .unwrap();
        std::fs::read_to_string(target.join("hello")).unwrap()
    }

    #[test]
    fn a_repository_can_be_cloned_over_http_and_from_the_daemon() {
        let scratch = Scratch::new().unwrap();
        let repository = Repository::new(&scratch.join("repos/one")).unwrap();
        repository.commit("first", &[("hello", "world\n")]).unwrap();
        let http = GitHttp::start(&scratch.join("repos")).unwrap();
        let daemon = GitDaemon::start(&scratch.join("repos"), &scratch.log_file("git")).unwrap();
        assert_eq!(clones(&http.url("one/.git"), &scratch, "a"), "world\n");
        assert_eq!(clones(&daemon.url("one"), &scratch, "b"), "world\n");
    }
}
