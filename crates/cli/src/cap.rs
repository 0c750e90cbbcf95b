//! The argument which says where the cluster is: a `.cap` file or a `capnp://` URI, given as the first positional argument or with
//! `-c`/`--connect`.
//!
//! A sturdy ref is a secret. No error made here repeats one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ocluster_vat::{SturdyRef, SturdyRefError};
use thiserror::Error;

use crate::args::CAP;

/// What a user gave to say where to connect.
#[derive(Clone, PartialEq, Eq)]
pub enum CapSource {
    /// A `.cap` file, which existed when the command line was read.
    File(PathBuf),
    /// A `capnp://` URI. It is a secret.
    Uri(String),
}

/// Why what the user gave can be neither.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CapSourceError {
    /// Not a URI, and no such file.
    #[error("File {0:?} does not exist")]
    NoSuchFile(PathBuf),
}

impl CapSource {
    /// Reads the sturdy ref.
    ///
    /// # Errors
    /// When the file cannot be read, or there is no sturdy ref in it or in the URI.
    pub fn load(&self) -> Result<SturdyRef, SturdyRefError> {
        match self {
            Self::File(path) => SturdyRef::load(path),
            Self::Uri(uri) => SturdyRef::parse(uri),
        }
    }
}

impl FromStr for CapSource {
    type Err = CapSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim_start().starts_with("capnp://") {
            return Ok(Self::Uri(text.to_owned()));
        }
        existing_file(text).map(Self::File)
    }
}

impl fmt::Debug for CapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Uri(_) => f.write_str("Uri(<secret>)"),
        }
    }
}

/// The path of something that exists. Fit to be a clap value parser: a mistyped file name is then a usage error.
///
/// # Errors
/// When there is nothing at that path.
pub fn existing_file(text: &str) -> Result<PathBuf, CapSourceError> {
    let path = Path::new(text);
    if path.exists() {
        Ok(path.to_owned())
    } else {
        Err(CapSourceError::NoSuchFile(path.to_owned()))
    }
}

/// The two places of the argument. Flatten it before a command's own positional arguments, and read the command line with
/// [`crate::args::parse`], which sees to it that exactly one of them is given.
#[derive(Clone, Debug, clap::Args)]
pub struct CapArgs {
    /// Where to connect: a .cap file, or a capnp:// URI.
    #[arg(id = CAP, value_name = "CAP")]
    positional: Option<CapSource>,

    /// The same as CAP, which is then left out.
    #[arg(short = 'c', long = "connect", value_name = "CAP", display_order = 0)]
    connect: Option<CapSource>,
}

impl CapArgs {
    /// Reads the sturdy ref of whichever was given.
    ///
    /// # Errors
    /// As [`CapSource::load`].
    pub fn load(&self) -> Result<SturdyRef, SturdyRefError> {
        match self.connect.as_ref().or(self.positional.as_ref()) {
            Some(source) => source.load(),
            // What an empty reference gives; `args::parse` has asked for one already.
            None => SturdyRef::parse(""),
        }
    }

    /// What to write for CAP in an example of another command: the file, or `CAP` in place of a URI, which is a secret.
    #[must_use]
    pub fn as_example(&self) -> String {
        match self.connect.as_ref().or(self.positional.as_ref()) {
            Some(CapSource::File(path)) => path.display().to_string(),
            Some(CapSource::Uri(_)) | None => "CAP".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_not_looked_for_on_disk() {
        let source: CapSource = "capnp://insecure@127.0.0.1:9000/c2VjcmV0".parse().unwrap();
        assert!(source.load().is_ok());
        assert_eq!(format!("{source:?}"), "Uri(<secret>)");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = "no/such.cap".parse::<CapSource>().unwrap_err();
        assert_eq!(error.to_string(), "File \"no/such.cap\" does not exist");
    }
}
