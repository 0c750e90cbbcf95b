//! Sturdy refs: `capnp://DIGEST@WHERE/ID` URIs, and the `.cap` files which hold one.
//!
//! A sturdy ref is a secret. `Debug` and every error here leave the service id out; only
//! [`SturdyRef::to_uri`] and [`SturdyRef::save`] write it.

use std::fmt;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};
use thiserror::Error;

use crate::digest::BASE64;
use crate::location::split_host_port;
use crate::{Address, Digest, Location, ServiceId};

/// What must be escaped in the path of a URI (RFC 3986): everything but `pchar` and `/`.
const PATH_ESCAPES: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The most bytes read from a `.cap` file. A real one has some 150.
const MAX_CAP_FILE: u64 = 64 * 1024;

/// A service at a vat: enough to connect to it from anywhere, and the authority to use it.
#[derive(Clone, PartialEq, Eq)]
pub struct SturdyRef {
    /// The vat which offers the service.
    pub address: Address,
    /// The secret which names the service there.
    pub id: ServiceId,
}

/// Why a sturdy ref could not be read or written.
#[derive(Debug, Error)]
pub enum SturdyRefError {
    /// The text is not a URI at all.
    #[error("Missing scheme in {text} (expected 'capnp://...')")]
    MissingScheme {
        /// What stood there, shortened.
        text: String,
    },
    /// A URI of another kind.
    #[error("Unknown scheme {scheme:?} (expected 'capnp://...')")]
    UnknownScheme {
        /// The scheme found.
        scheme: String,
    },
    /// Nothing before the `@`.
    #[error(
        "Missing digest hash type (e.g. '...://sha256:...'): copy the whole line of the .cap file"
    )]
    MissingDigestType,
    /// A hash type without its value.
    #[error(
        "Missing digest value (e.g. '...://sha-256:DIGEST@...'): copy the whole line of the .cap file"
    )]
    MissingDigestValue,
    /// A hash type other than `sha-256` and `insecure`.
    #[error(
        "Unknown hash type {found:?}: only \"sha-256\" and \"insecure\" are known, so this reference may come from a newer program"
    )]
    UnknownDigestType {
        /// The type found.
        found: String,
    },
    /// The digest is not 32 bytes of base64url.
    #[error("bad digest in the reference: a sha-256 digest is 43 characters of A-Z a-z 0-9 - _")]
    BadDigest,
    /// A host without a port.
    #[error("Missing port in {text}")]
    MissingPort {
        /// The host part found.
        text: String,
    },
    /// A port without a host.
    #[error("missing host before port {port} in the reference")]
    MissingHost {
        /// The port found.
        port: u16,
    },
    /// A port which is not a number.
    #[error("bad port in {text}: PORT must be an integer between 0 and 65535")]
    BadPort {
        /// The host part found.
        text: String,
    },
    /// No path at all, hence no service id.
    #[error(
        "missing service id in the reference: nothing follows {place}; copy the whole line of the .cap file"
    )]
    MissingId {
        /// Where the id was expected.
        place: String,
    },
    /// The id is not base64url.
    #[error(
        "bad service id in the reference: it must be base64url (A-Z a-z 0-9 - _); copy the whole line of the .cap file"
    )]
    BadId,
    /// There is no such file.
    #[error("File {path:?} does not exist: give the path of a .cap file, or a capnp:// URI")]
    NoSuchFile {
        /// The path given.
        path: PathBuf,
    },
    /// The file could not be read.
    #[error("cannot read the .cap file {path:?}: {source}")]
    Read {
        /// The path given.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path:?} is not a .cap file: {source}")]
    BadFile {
        /// The path given.
        path: PathBuf,
        /// What is wrong with its content.
        source: Box<SturdyRefError>,
    },
    /// The file is far too long for a `.cap` file, or not text.
    #[error("the file does not hold one line of text of the form capnp://DIGEST@HOST:PORT/ID")]
    NotText,
    /// The file could not be written.
    #[error("cannot write the .cap file {path:?}: {source}")]
    Write {
        /// The path given.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl SturdyRef {
    /// The service `id` at `address`.
    #[must_use]
    pub fn new(address: Address, id: ServiceId) -> Self {
        Self { address, id }
    }

    /// Reads a URI. White space around it is ignored.
    ///
    /// # Errors
    /// Says which part is missing or wrong, in the words OCluster's programs use where they have any.
    pub fn parse(uri: &str) -> Result<Self, SturdyRefError> {
        let uri = uri.trim();
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err(SturdyRefError::MissingScheme { text: shorten(uri) });
        };
        if scheme != "capnp" {
            return Err(SturdyRefError::UnknownScheme {
                scheme: shorten(scheme),
            });
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (user, host) = authority
            .rsplit_once('@')
            .ok_or(SturdyRefError::MissingDigestType)?;
        let digest = parse_digest(user)?;
        let (location, id) = if host.is_empty() {
            let (socket, id) = path
                .rsplit_once('/')
                .filter(|(socket, _)| !socket.is_empty())
                .ok_or_else(|| SturdyRefError::MissingId {
                    place: "the path of the socket".to_owned(),
                })?;
            let socket = percent_decode(socket.as_bytes()).collect::<Vec<u8>>();
            let socket = PathBuf::from(std::ffi::OsString::from_vec(socket));
            (Location::Unix(socket), id)
        } else {
            let (host, port) = parse_host_port(host)?;
            let id = path
                .strip_prefix('/')
                .ok_or_else(|| SturdyRefError::MissingId {
                    place: format!("port {port}"),
                })?;
            (Location::tcp(host, port), id)
        };
        let id = percent_decode(id.as_bytes()).collect::<Vec<u8>>();
        let id = BASE64.decode(&id).map_err(|_| SturdyRefError::BadId)?;
        Ok(Self::new(
            Address::new(location, digest),
            ServiceId::new(id),
        ))
    }

    /// Writes the URI, the secret id included.
    #[must_use]
    pub fn to_uri(&self) -> String {
        let digest = self.address.digest;
        let id = self.id.to_base64();
        match &self.address.location {
            Location::Tcp { host, port } => {
                format!("capnp://{digest}@{}/{id}", Location::authority(host, *port))
            }
            Location::Unix(path) => {
                let path = percent_encode(path.as_os_str().as_bytes(), PATH_ESCAPES);
                format!("capnp://{digest}@{path}/{id}")
            }
        }
    }

    /// Reads a `.cap` file.
    ///
    /// # Errors
    /// When the file does not exist, cannot be read, or holds no sturdy ref.
    pub fn load(path: &Path) -> Result<Self, SturdyRefError> {
        use std::io::Read as _;
        let read = || {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?
                .take(MAX_CAP_FILE + 1)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => SturdyRefError::NoSuchFile { path: path.into() },
            _ => SturdyRefError::Read {
                path: path.into(),
                source,
            },
        })?;
        let bad = |source| SturdyRefError::BadFile {
            path: path.into(),
            source: Box::new(source),
        };
        if bytes.len() as u64 > MAX_CAP_FILE {
            return Err(bad(SturdyRefError::NotText));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| bad(SturdyRefError::NotText))?;
        Self::parse(text).map_err(bad)
    }

    /// Writes a `.cap` file: the URI and a newline, mode 0600, by way of a temporary file beside
    /// it, so that a reader sees the old content or the new, never half of one.
    ///
    /// # Errors
    /// When the directory does not exist or cannot be written to.
    pub fn save(&self, path: &Path) -> Result<(), SturdyRefError> {
        self.try_save(path).map_err(|source| SturdyRefError::Write {
            path: path.into(),
            source,
        })
    }

    fn try_save(&self, path: &Path) -> std::io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut file = tempfile::Builder::new()
            .prefix(".cap-")
            .permissions(std::fs::Permissions::from_mode(0o600))
            .tempfile_in(directory)?;
        file.write_all(self.to_uri().as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    }

    /// Reads what a user gives to `--connect`: a `capnp://` URI, or the path of a `.cap` file.
    ///
    /// # Errors
    /// As [`SturdyRef::parse`] and [`SturdyRef::load`].
    pub fn from_path_or_uri(text: &str) -> Result<Self, SturdyRefError> {
        if text.trim_start().starts_with("capnp://") {
            Self::parse(text)
        } else {
            Self::load(Path::new(text))
        }
    }
}

impl FromStr for SturdyRef {
    type Err = SturdyRefError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        Self::parse(uri)
    }
}

impl fmt::Debug for SturdyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SturdyRef")
            .field("address", &self.address)
            .field("id", &self.id)
            .finish()
    }
}

fn parse_digest(user: &str) -> Result<Digest, SturdyRefError> {
    let (kind, value) = match user.split_once(':') {
        Some((kind, value)) => (kind, Some(value)),
        None => (user, None),
    };
    match (kind, value) {
        ("", _) => Err(SturdyRefError::MissingDigestType),
        ("insecure", _) => Ok(Digest::Insecure),
        ("sha-256", None | Some("")) => Err(SturdyRefError::MissingDigestValue),
        ("sha-256", Some(value)) => {
            let value = percent_decode(value.as_bytes()).collect::<Vec<u8>>();
            let bytes = BASE64
                .decode(&value)
                .map_err(|_| SturdyRefError::BadDigest)?;
            let bytes = bytes.try_into().map_err(|_| SturdyRefError::BadDigest)?;
            Ok(Digest::Sha256(bytes))
        }
        (found, _) => Err(SturdyRefError::UnknownDigestType {
            found: shorten(found),
        }),
    }
}

fn parse_host_port(text: &str) -> Result<(&str, u16), SturdyRefError> {
    use crate::LocationError;
    match split_host_port(text) {
        Ok(("", port)) => Err(SturdyRefError::MissingHost { port }),
        Ok(found) => Ok(found),
        Err(LocationError::BadPort) => Err(SturdyRefError::BadPort {
            text: shorten(text),
        }),
        Err(_) => Err(SturdyRefError::MissingPort {
            text: shorten(text),
        }),
    }
}

/// The first line of what was found, shortened, for an error message.
fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST)
        .collect();
    if line.chars().count() > MOST {
        short.push('…');
    }
    short
}
