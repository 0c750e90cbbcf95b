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

use crate::digest::BASE64;
use crate::location::split_host_port;
use crate::{Address, Digest, Location, ServiceId, SturdyRefError};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const DIGEST: &str = "iInRiGTiIuENWq-A4jYgm48eGmeYIyhDyEtPObY6Rms";

    fn round_trip(uri: &str) -> SturdyRef {
        let parsed = SturdyRef::parse(uri).unwrap();
        assert_eq!(parsed.to_uri(), uri);
        parsed
    }

    #[test]
    fn a_tcp_reference() {
        let parsed = round_trip(&format!(
            "capnp://sha-256:{DIGEST}@build.example:9000/AAEC_w"
        ));
        assert_eq!(
            parsed.address.location,
            Location::tcp("build.example", 9000)
        );
        assert_eq!(parsed.id.as_bytes(), [0, 1, 2, 255]);
        assert!(parsed.address.digest.is_secure());
    }

    #[test]
    fn an_ipv6_reference() {
        let parsed = round_trip(&format!("capnp://sha-256:{DIGEST}@[2001:db8::1]:9000/AAEC"));
        assert_eq!(parsed.address.location, Location::tcp("2001:db8::1", 9000));
        assert_eq!(parsed.address.to_string(), "tcp:[2001:db8::1]:9000");
    }

    #[test]
    fn insecure_references_and_empty_ids() {
        assert_eq!(
            round_trip("capnp://insecure@h:1/AA").address.digest,
            Digest::Insecure
        );
        assert!(round_trip("capnp://insecure@h:1/").id.as_bytes().is_empty());
        assert!(
            round_trip("capnp://insecure@/run/s/")
                .id
                .as_bytes()
                .is_empty()
        );
    }

    #[test]
    fn a_unix_reference_is_percent_encoded() {
        let parsed = round_trip("capnp://insecure@/run/a%20b%25c.sock/AAEC");
        assert_eq!(
            parsed.address.location,
            Location::Unix("/run/a b%c.sock".into())
        );
    }

    #[test]
    fn padding_and_white_space_are_accepted_but_not_written() {
        let parsed = SturdyRef::parse(&format!(" capnp://sha-256:{DIGEST}=@h:1/AA==\n")).unwrap();
        assert_eq!(parsed.to_uri(), format!("capnp://sha-256:{DIGEST}@h:1/AA"));
    }

    #[test]
    fn mistakes_get_the_texts_users_know() {
        let long = "x".repeat(10_000);
        for (text, expected) in [
            ("hello", "Missing scheme in hello (expected 'capnp://...')"),
            ("", "Missing scheme in  (expected 'capnp://...')"),
            (
                "http://a@b:1/c",
                "Unknown scheme \"http\" (expected 'capnp://...')",
            ),
            ("capnp://insecure@h/AA", "Missing port in h"),
            (
                "capnp://h:1/AA",
                "Missing digest hash type (e.g. '...://sha256:...')",
            ),
            (
                "capnp://@h:1/AA",
                "Missing digest hash type (e.g. '...://sha256:...')",
            ),
            ("capnp://sha-256@h:1/AA", "Missing digest value ("),
            ("capnp://sha-512:AA@h:1/AA", "Unknown hash type \"sha-512\""),
            ("capnp://sha-256:AA@h:1/AA", "bad digest"),
            ("capnp://insecure@h:x/AA", "bad port in h:x"),
            ("capnp://insecure@:1/AA", "missing host before port 1"),
            ("capnp://insecure@h:1", "missing service id"),
            ("capnp://insecure@h:1/!", "bad service id"),
            (&long, "Missing scheme in xxx"),
        ] {
            let error = SturdyRef::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(error.len() < 300);
        }
    }

    #[test]
    fn errors_and_debug_never_show_the_id() {
        let secret = "c2VjcmV0LXNlY3JldA";
        let shown = format!(
            "{:?}",
            SturdyRef::parse(&format!("capnp://insecure@h:1/{secret}"))
        );
        assert!(
            !shown.contains(secret) && shown.contains("<secret>"),
            "{shown}"
        );
        for bad in [
            format!("capnp://insecure@h:1/{secret}!"),
            format!("capnp://insecure@h/{secret}"),
            format!("capnp://h:1/{secret}"),
        ] {
            let error = SturdyRef::parse(&bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(secret), "{error}");
        }
    }

    #[test]
    fn a_cap_file_is_one_line_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.cap");
        std::fs::write(&path, "an old one").unwrap();
        let saved = SturdyRef::parse("capnp://insecure@h:1/AAEC").unwrap();
        saved.save(&path).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"capnp://insecure@h:1/AAEC\n"
        );
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
        assert!(SturdyRef::load(&path).unwrap() == saved);
        let text = path.to_str().unwrap();
        assert!(SturdyRef::from_path_or_uri(text).unwrap() == saved);
        assert!(SturdyRef::from_path_or_uri(&saved.to_uri()).unwrap() == saved);
    }

    #[test]
    fn bad_cap_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none.cap");
        let error = SturdyRef::load(&missing).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("File {missing:?} does not exist")),
            "{error}"
        );
        let junk = directory.path().join("junk.cap");
        for (content, expected) in [
            (b"hello".to_vec(), "Missing scheme in hello"),
            (vec![0xff; 40], "does not hold one line of text"),
            (vec![b'x'; 100_000], "does not hold one line of text"),
            (Vec::new(), "Missing scheme in"),
        ] {
            std::fs::write(&junk, content).unwrap();
            let error = SturdyRef::load(&junk).unwrap_err().to_string();
            assert!(
                error.contains("junk.cap") && error.contains(expected),
                "{error}"
            );
        }
        let nowhere = directory.path().join("no/such/dir.cap");
        let saved = SturdyRef::parse("capnp://insecure@h:1/AA")
            .unwrap()
            .save(&nowhere);
        assert!(
            saved
                .unwrap_err()
                .to_string()
                .starts_with("cannot write the .cap file")
        );
    }
}
