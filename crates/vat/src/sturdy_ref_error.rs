//! Why a sturdy ref could not be read or written: OCluster's own words where it has any, and what to
//! do about it. No text here may contain a service id.

use std::path::PathBuf;

use thiserror::Error;

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
