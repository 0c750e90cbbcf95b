//! Where an exporter is: a plain http URL, checked once.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// An `http` URL. Its text holds no secret: one with a user or a password is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterUrl {
    text: String,
    /// Without the brackets of IPv6.
    host: String,
    port: u16,
    path: String,
}

/// Why something is no such URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExporterUrlError {
    /// No URL at all.
    #[error("{0:?} is not a URL: expected something like http://127.0.0.1:9100/metrics")]
    NotAUrl(String),
    /// Another scheme.
    #[error(
        "{0:?} cannot be asked: only http:// works, not https; put a local exporter or proxy in between"
    )]
    NotHttp(String),
    /// Credentials. The URL is not repeated.
    #[error("a URL with a user name or a password is not supported")]
    Credentials,
}

impl ExporterUrl {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What the header `Host` says.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

/// OCluster's fixed address of the node exporter.
impl Default for ExporterUrl {
    fn default() -> Self {
        Self {
            text: "http://127.0.0.1:9100/metrics".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9100,
            path: "/metrics".to_owned(),
        }
    }
}

impl FromStr for ExporterUrl {
    type Err = ExporterUrlError;

    fn from_str(text: &str) -> Result<Self, ExporterUrlError> {
        let not_a_url = || ExporterUrlError::NotAUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| not_a_url())?;
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(ExporterUrlError::Credentials);
        }
        match uri.scheme_str() {
            Some("http") => {}
            Some(_) => return Err(ExporterUrlError::NotHttp(text.to_owned())),
            None => return Err(not_a_url()),
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(not_a_url)?;
        Ok(Self {
            text: text.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: match uri.port() {
                Some(port) => port.as_u16(),
                None => 80,
            },
            path: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }
}

impl fmt::Display for ExporterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, authority, path) in [
            (
                "http://127.0.0.1:9100/metrics",
                "127.0.0.1:9100",
                "/metrics",
            ),
            ("http://gpu.example/a?b=c", "gpu.example:80", "/a?b=c"),
            ("http://[::1]:9400", "[::1]:9400", "/"),
        ] {
            let url: ExporterUrl = text.parse().unwrap();
            assert_eq!((url.authority().as_str(), url.path()), (authority, path));
            assert_eq!(url.to_string(), text);
        }
        assert_eq!(
            "http://[::1]/".parse::<ExporterUrl>().unwrap().host(),
            "::1"
        );
        let default = ExporterUrl::default();
        assert_eq!(default.to_string().parse(), Ok(default));
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<ExporterUrl>().unwrap_err();
        for text in ["", "9100", "/metrics", "127.0.0.1:9100", "http://", "a b"] {
            assert_eq!(refused(text), ExporterUrlError::NotAUrl(text.to_owned()));
        }
        let https = "https://127.0.0.1/metrics";
        assert_eq!(refused(https), ExporterUrlError::NotHttp(https.to_owned()));
        let with_password = refused("http://me:s3cret@127.0.0.1/");
        assert!(!with_password.to_string().contains("s3cret"));
    }
}
