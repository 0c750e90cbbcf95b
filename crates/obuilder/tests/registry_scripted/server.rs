//! A web server on loopback that does what a test says, however wrong. It answers one request per connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

/// How the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection is closed after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes, and the connection stays.
    Stall(usize),
    /// It comes in pieces of so many bytes, twenty a second.
    Trickle(usize),
    /// Zeros come after it for as long as somebody reads.
    Endless,
}

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    flood: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first byte that is wanted.
    pub(crate) fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            end: End::Whole,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

impl Server {
    /// One that speaks plain HTTP.
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer).await
    }

    /// One that speaks TLS only.
    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen("127.0.0.1", tls, answer).await
    }

    /// One that speaks plain HTTP, at another address of this machine.
    pub(crate) async fn start_at(
        address: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(address, None, answer).await
    }

    async fn listen(
        address: &str,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let flood = Arc::new(AtomicU64::new(0));
        let (list, answer, count) = (Arc::clone(&seen), Arc::new(answer), Arc::clone(&flood));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (list, answer, tls) = (Arc::clone(&list), Arc::clone(&answer), tls.clone());
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &list, &count, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &list, &count, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            seen,
            flood,
            task,
        }
    }

    /// Its name as a registry.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many bytes beyond bodies were taken from us, or are on their way.
    pub(crate) fn flood(&self) -> u64 {
        self.flood.load(Ordering::Relaxed)
    }

    /// Everything that was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("a lock").clone()
    }

    /// What was asked about paths with this in them.
    pub(crate) fn seen_of(&self, part: &str) -> Vec<Request> {
        let mut seen = self.seen();
        seen.retain(|request| request.path.contains(part));
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    list: &Mutex<Vec<Request>>,
    flood: &AtomicU64,
    answer: &(impl Fn(&Request) -> Reply + ?Sized),
) {
    // Somebody who tries TLS here, or goes away, is no request.
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let reply = answer(&request);
    let is_head = request.method == "HEAD";
    list.lock().expect("a lock").push(request);
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut head = format!(
        "HTTP/1.1 {} Something\r\nconnection: close\r\n",
        reply.status
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !has_length && reply.end != End::Endless {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() || is_head {
        let _ = stream.shutdown().await;
        return;
    }
    let body: &[u8] = match reply.end {
        End::Cut(count) | End::Stall(count) => &reply.body[..count.min(reply.body.len())],
        End::Whole | End::Endless => &reply.body,
        End::Trickle(_) => &[],
    };
    if stream.write_all(body).await.is_err() {
        return;
    }
    let _ = stream.flush().await;
    match reply.end {
        End::Whole | End::Cut(_) => {
            let _ = stream.shutdown().await;
        }
        End::Trickle(count) => {
            for piece in reply.body.chunks(count) {
                if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let _ = stream.shutdown().await;
        }
        End::Stall(_) => tokio::time::sleep(Duration::from_secs(300)).await,
        End::Endless => {
            while stream.write_all(&[0; 65536]).await.is_ok() {
                flood.fetch_add(65536, Ordering::Relaxed);
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        if !byte.is_ascii() || head.is_empty() && !byte.is_ascii_uppercase() {
            return None;
        }
        head.push(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, length)| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
