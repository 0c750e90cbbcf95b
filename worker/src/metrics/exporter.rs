//! Asking an exporter on this machine for its page. Whatever the exporter does (nothing, rubbish, a byte a second, no end), the answer
//! is a page or an error, within a bounded time and bounded memory.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::exporter_url::ExporterUrl;

/// A page as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// What it says it is.
    pub(crate) content_type: String,
    /// The text.
    pub(crate) data: String,
}

/// What one question may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From the connection to the last byte.
    pub(super) time: Duration,
    /// Bytes of the page.
    pub(super) size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // As long as Prometheus waits, unless told otherwise.
            time: Duration::from_secs(10),
            // Hundreds of times a usual page, and half of what one message to the scheduler may have.
            size: 32 << 20,
        }
    }
}

/// Why there is no page. The words, up to where they go into details, are OCluster's.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExporterError {
    /// No connection.
    #[error("Failed to connect to {what} at {url}: {reason}")]
    Connect {
        what: String,
        url: String,
        reason: std::io::Error,
    },
    /// Another answer than 200.
    #[error("{what}: {status}")]
    Status { what: String, status: StatusCode },
    /// Nobody says what the page is.
    #[error("Missing Content-Type in HTTP response from {what}")]
    NoContentType { what: String },
    /// The page's type is not readable.
    #[error("The Content-Type in the HTTP response from {what} is not ASCII text")]
    BadContentType { what: String },
    /// No page of metrics can be that.
    #[error("The page of {what} at {url} is not UTF-8 text")]
    NotText { what: String, url: String },
    /// More than the limit.
    #[error("The page of {what} at {url} has more than the {limit} bytes that are allowed")]
    TooLarge {
        what: String,
        url: String,
        limit: usize,
    },
    /// Something else than HTTP, or the connection broke.
    #[error("{what} at {url} did not answer as an HTTP server does: {reason}")]
    Protocol {
        what: String,
        url: String,
        reason: String,
    },
    /// Too slow.
    #[error("{what} at {url} did not give its whole page within {} ms", limit.as_millis())]
    Timeout {
        what: String,
        url: String,
        limit: Duration,
    },
}

/// Gets a page from `url`; errors call the exporter `what`. Nothing goes on when this is dropped.
pub(super) async fn fetch(
    url: &ExporterUrl,
    what: &str,
    limits: Limits,
) -> Result<Page, ExporterError> {
    let question = Question { url, what, limits };
    tokio::time::timeout(limits.time, question.ask())
        .await
        .unwrap_or_else(|_| {
            Err(ExporterError::Timeout {
                what: question.what(),
                url: question.url(),
                limit: limits.time,
            })
        })
}

struct Question<'a> {
    url: &'a ExporterUrl,
    what: &'a str,
    limits: Limits,
}

impl Question<'_> {
    async fn ask(&self) -> Result<Page, ExporterError> {
        let stream = TcpStream::connect((self.url.host(), self.url.port()))
            .await
            .map_err(|reason| ExporterError::Connect {
                what: self.what(),
                url: self.url(),
                reason,
            })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.protocol(&error))?;
        let request = Request::get(self.url.path())
            .header(header::HOST, self.url.authority())
            .header(header::ACCEPT, "text/plain;version=0.0.4, */*;q=0.1")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.protocol(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await;
            self.read(response.map_err(|error| self.protocol(&error))?)
                .await
        };
        tokio::pin!(exchange);
        tokio::select! {
            page = &mut exchange => page,
            // What has arrived until then is still to be read.
            _ = connection => exchange.await,
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Page, ExporterError> {
        let what = self.what();
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(ExporterError::Status { what, status });
        }
        let content_type = match response.headers().get(header::CONTENT_TYPE) {
            None => return Err(ExporterError::NoContentType { what }),
            Some(value) => match value.to_str() {
                Ok(text) => text.to_owned(),
                Err(_) => return Err(ExporterError::BadContentType { what }),
            },
        };
        let limit = self.limits.size;
        let body = Limited::new(response.into_body(), limit).collect().await;
        let bytes = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let url = self.url();
                return Err(ExporterError::TooLarge { what, url, limit });
            }
            Err(error) => return Err(self.protocol(&*error)),
        };
        match String::from_utf8(bytes.into()) {
            Ok(data) => Ok(Page { content_type, data }),
            Err(_) => Err(ExporterError::NotText {
                what,
                url: self.url(),
            }),
        }
    }

    fn what(&self) -> String {
        self.what.to_owned()
    }

    fn url(&self) -> String {
        self.url.to_string()
    }

    fn protocol(&self, error: &dyn std::error::Error) -> ExporterError {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        ExporterError::Protocol {
            what: self.what(),
            url: self.url(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";

    /// An exporter that reads the question and does as it is told.
    async fn exporter<F>(act: impl FnOnce(TcpStream) -> F + Send + 'static) -> ExporterUrl
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(stream.read_u8().await.unwrap());
            }
            act(stream).await;
        });
        format!("http://127.0.0.1:{port}/metrics").parse().unwrap()
    }

    /// An exporter that says this.
    async fn saying(answer: impl Into<Vec<u8>>) -> ExporterUrl {
        let answer = answer.into();
        exporter(async move |mut stream: TcpStream| {
            // Whoever asks may have had enough before the end.
            let _ = stream.write_all(&answer).await;
        })
        .await
    }

    async fn ask(url: &ExporterUrl) -> Result<Page, String> {
        let limits = Limits {
            time: Duration::from_secs(30),
            size: 1000,
        };
        let page = fetch(url, "prometheus-node-exporter", limits).await;
        page.map_err(|error| error.to_string())
    }

    async fn refusal(url: &ExporterUrl) -> String {
        ask(url).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_page_is_handed_on_as_it_is() {
        let page = Page {
            content_type: "text/plain; version=0.0.4".to_owned(),
            data: "up 1\n".to_owned(),
        };
        let sized = format!("{HEAD}Content-Length: 5\r\n\r\nup 1\n");
        let chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nup 1\n\r\n0\r\n\r\n");
        let until_the_end = format!("{HEAD}\r\nup 1\n");
        for answer in [sized, chunked, until_the_end] {
            assert_eq!(ask(&saying(answer).await).await, Ok(page.clone()));
        }
    }

    #[tokio::test]
    async fn an_exporter_that_is_away_is_named_as_upstream_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let reason = refusal(&url.parse().unwrap()).await;
        let expected = "Failed to connect to prometheus-node-exporter";
        assert!(reason.starts_with(expected), "{reason}");
        assert!(reason.contains(&url), "{reason}");
    }

    #[tokio::test]
    async fn answers_without_a_page_are_told_apart() {
        let missing = saying("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(
            refusal(&missing).await,
            "prometheus-node-exporter: 404 Not Found"
        );
        let untyped = saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 1\n").await;
        assert_eq!(
            refusal(&untyped).await,
            "Missing Content-Type in HTTP response from prometheus-node-exporter"
        );
    }

    #[tokio::test]
    async fn rubbish_is_called_that() {
        let no_http = "did not answer as an HTTP server does";
        for (answer, expected) in [
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), no_http),
            (vec![0xff; 5000], no_http),
            (Vec::new(), no_http),
            (
                format!("{HEAD}Content-Length: 99\r\n\r\nup").into(),
                no_http,
            ),
            (
                [HEAD.as_bytes(), b"Content-Length: 2\r\n\r\n\xff\xfe"].concat(),
                "is not UTF-8 text",
            ),
        ] {
            let reason = refusal(&saying(answer).await).await;
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_page_of_any_size_takes_bounded_memory() {
        // Whether its size is announced,
        let announced = exporter(async |mut stream: TcpStream| {
            let head = format!("{HEAD}Content-Length: 104857600\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(&[b'a'; 4096]).await.is_ok() {}
        });
        // or it has no end.
        let endless = exporter(async |mut stream: TcpStream| {
            let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(b"4\r\nabc\n\r\n").await.is_ok() {}
        });
        for url in [announced.await, endless.await] {
            let reason = refusal(&url).await;
            assert!(reason.contains("more than the 1000 bytes"), "{reason}");
        }
    }

    #[tokio::test]
    async fn one_that_drips_or_says_nothing_is_given_up() {
        let dripping = exporter(async |mut stream: TcpStream| {
            let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(b"1\r\na\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let silent = exporter(async |_stream: TcpStream| std::future::pending().await);
        for url in [dripping.await, silent.await] {
            let limits = Limits {
                time: Duration::from_millis(200),
                size: 1 << 20,
            };
            let error = fetch(&url, "gpu", limits).await.unwrap_err();
            let expected = format!("gpu at {url} did not give its whole page within 200 ms");
            assert_eq!(error.to_string(), expected);
        }
    }
}
