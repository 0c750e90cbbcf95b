//! Real git servers on this host: `git daemon`, `git http-backend` behind a few lines of HTTP, and servers that misbehave.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// `git daemon`, serving each repository below a directory.
pub(crate) struct Daemon {
    process: Child,
    port: u16,
}

impl Daemon {
    pub(crate) fn serve(root: &Path) -> Daemon {
        for _ in 0..20 {
            let port = free_port();
            let mut process = Command::new(exec_path().join("git-daemon"))
                .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", root.display()))
                .arg(root)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "safe.directory")
                .env("GIT_CONFIG_VALUE_0", "*")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("git daemon is needed for these tests");
            let give_up = Instant::now() + Duration::from_secs(20);
            // Somebody else may have taken the port meanwhile; then the daemon ends.
            while process.try_wait().unwrap().is_none() && Instant::now() < give_up {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Daemon { process, port };
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("git daemon does not start");
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An HTTP server whose every path is a repository for `git http-backend`, except below `/private`, which wants a login.
pub(crate) struct Http {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Http {
    pub(crate) fn serve(root: &Path) -> Http {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let root = root.to_owned();
        let count = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, count) = (root.clone(), Arc::clone(&count));
                thread::spawn(move || {
                    // A client may hang up at any time.
                    let _ = answer_all(stream, &root, &count);
                });
            }
        });
        Http { port, requests }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// How many requests it got so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

struct Asked {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

fn answer_all(stream: TcpStream, root: &Path, count: &AtomicUsize) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while let Some(asked) = read_request(&mut input, &mut output)? {
        count.fetch_add(1, Ordering::SeqCst);
        let answer = if asked.path.starts_with("/private") {
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            backend(&asked, root)?
        };
        output.write_all(&answer)?;
    }
    Ok(())
}

fn read_request(
    input: &mut BufReader<TcpStream>,
    output: &mut TcpStream,
) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut asked = Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        asked
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if asked.header("expect") == "100-continue" {
        output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if asked.header("transfer-encoding") == "chunked" {
        loop {
            let mut size = String::new();
            input.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            input.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            asked.body.extend_from_slice(&chunk[..size]);
        }
    } else {
        asked.body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
        input.read_exact(&mut asked.body)?;
    }
    Ok(Some(asked))
}

/// Runs `git http-backend` as RFC 3875 says.
fn backend(asked: &Asked, root: &Path) -> io::Result<Vec<u8>> {
    let mut process = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("CONTENT_TYPE", asked.header("content-type"))
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", asked.header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    process.stdin.take().unwrap().write_all(&asked.body)?;
    let output = process.wait_with_output()?.stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(output.len(), |at| at + 4);
    let (head, body) = output.split_at(end);
    let mut status = "200 OK".to_owned();
    let mut headers = String::new();
    for line in String::from_utf8_lossy(head)
        .lines()
        .filter(|line| !line.is_empty())
    {
        match line.strip_prefix("Status: ") {
            Some(given) => given.clone_into(&mut status),
            None => write!(headers, "{line}\r\n").unwrap(),
        }
    }
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    Ok(answer)
}

/// A server that takes connections and says nothing, ever.
pub(crate) struct Silent {
    port: u16,
    accepted: mpsc::Receiver<TcpStream>,
}

impl Silent {
    pub(crate) fn listen() -> Silent {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, accepted) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Silent { port, accepted }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/x", self.host())
    }

    /// Waits for a client; its connection stays open while the value lives.
    pub(crate) async fn client(self) -> TcpStream {
        let wait = move || self.accepted.recv_timeout(Duration::from_secs(30));
        tokio::task::spawn_blocking(wait).await.unwrap().unwrap()
    }
}

/// A way to another server on which each piece of an answer takes its time.
pub(crate) struct Slow {
    port: u16,
}

impl Slow {
    /// Passes on at most `piece` bytes of the answer, then rests for `pause`, and so on.
    pub(crate) fn before(daemon: &Daemon, piece: usize, pause: Duration) -> Slow {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = daemon.port;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
                let (mut questions, mut asked) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut questions, &mut asked));
                thread::spawn(move || pass_on(server, client, piece, pause));
            }
        });
        Slow { port }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }
}

fn pass_on(
    mut from: TcpStream,
    mut to: TcpStream,
    piece: usize,
    pause: Duration,
) -> io::Result<()> {
    let mut bytes = vec![0; piece];
    loop {
        let length = from.read(&mut bytes)?;
        if length == 0 {
            return to.shutdown(std::net::Shutdown::Write);
        }
        to.write_all(&bytes[..length])?;
        thread::sleep(pause);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn exec_path() -> PathBuf {
    let output = Command::new("git").arg("--exec-path").output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
