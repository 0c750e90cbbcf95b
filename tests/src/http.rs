//! Just enough of an HTTP client to read the scheduler's pages.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a page may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub struct HttpResponse {
    /// 200 and the like.
    pub status: u16,
    /// Names in lower case, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub body: String,
}

impl HttpResponse {
    /// The value of header `name`, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(its, _)| its == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Gets `path` from a server on loopback.
///
/// # Errors
///
/// When nobody listens on `port`, or the answer is not HTTP.
pub fn http_get(port: u16, path: &str) -> Result<HttpResponse> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .with_context(|| format!("nothing at 127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
        .with_context(|| format!("the answer to GET {path} is not HTTP"))
}

fn parse(text: &str) -> Option<HttpResponse> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    Some(HttpResponse {
        status,
        headers,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer =
            parse("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\n").unwrap();
        assert_eq!(
            (
                answer.status,
                answer.header("content-type"),
                answer.body.as_str()
            ),
            (404, Some("text/plain"), "no\n")
        );
    }
}
