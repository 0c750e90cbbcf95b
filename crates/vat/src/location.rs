//! Where a vat can be reached: `tcp:HOST:PORT` or `unix:PATH`.
//!
//! Parsing never resolves a name and never touches the file system.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// A place to listen on or to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A TCP port.
    Tcp {
        /// A host name or a numeric IPv4 or IPv6 address, the latter without brackets.
        host: String,
        /// The port; 0 when listening means "any free one".
        port: u16,
    },
    /// A Unix-domain socket at this absolute path.
    Unix(PathBuf),
}

impl Location {
    /// A TCP location.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// `HOST:PORT`, with brackets around an IPv6 address; for a Unix socket, its path.
    pub(crate) fn authority(host: &str, port: u16) -> String {
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

/// Why a location could not be read. The texts are those OCluster's programs print.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LocationError {
    /// No scheme.
    #[error("Missing ':'")]
    MissingColon,
    /// A scheme other than `tcp` and `unix`.
    #[error("Only tcp:HOST:PORT and unix:PATH addresses are currently supported")]
    UnknownScheme,
    /// `tcp:HOST` alone.
    #[error("Missing :PORT in listen address")]
    MissingPort,
    /// The port is not a number between 0 and 65535.
    #[error("PORT must be an integer")]
    BadPort,
    /// A relative socket path, in a process whose working directory cannot be told.
    #[error("the relative socket path {0:?} cannot be made absolute: give the whole path")]
    RelativePath(PathBuf),
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(LocationError::MissingColon)?;
        match scheme {
            "tcp" => {
                let (host, port) = split_host_port(rest)?;
                Ok(Self::tcp(host, port))
            }
            "unix" => Ok(Self::Unix(absolute(Path::new(rest))?)),
            _ => Err(LocationError::UnknownScheme),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp:{}", Self::authority(host, *port)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Splits `HOST:PORT`. An IPv6 address stands in brackets, and there are brackets nowhere else: such a host would be
/// another one when it is read again.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, u16), LocationError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(LocationError::MissingPort)?;
            let port = rest.strip_prefix(':').ok_or(LocationError::MissingPort)?;
            (host, port)
        }
        None => text.rsplit_once(':').ok_or(LocationError::MissingPort)?,
    };
    if host.contains(['[', ']']) {
        return Err(LocationError::MissingPort);
    }
    let port = port.parse().map_err(|_| LocationError::BadPort)?;
    Ok((host, port))
}

fn absolute(path: &Path) -> Result<PathBuf, LocationError> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    std::env::current_dir()
        .map(|cwd| cwd.join(path))
        .map_err(|_| LocationError::RelativePath(path.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn locations_read_back_as_written() {
        for text in [
            "tcp:0.0.0.0:9000",
            "tcp:build.example:1",
            "tcp:[::1]:7",
            "unix:/run/s",
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        let Location::Unix(path) = "unix:relative".parse().unwrap() else {
            panic!("not a socket");
        };
        assert!(path.is_absolute() && path.ends_with("relative"));
    }

    #[test]
    fn mistakes_get_the_texts_users_know() {
        for (text, expected) in [
            ("9000", "Missing ':'"),
            (
                "udp:a:1",
                "Only tcp:HOST:PORT and unix:PATH addresses are currently supported",
            ),
            ("tcp:a", "Missing :PORT in listen address"),
            ("tcp:[::1]", "Missing :PORT in listen address"),
            ("tcp:a]b:c:7", "Missing :PORT in listen address"),
            ("tcp:[[::1]:7", "Missing :PORT in listen address"),
            ("tcp:a:b", "PORT must be an integer"),
            ("tcp:a:70000", "PORT must be an integer"),
        ] {
            assert_eq!(text.parse::<Location>().unwrap_err().to_string(), expected);
        }
    }
}
