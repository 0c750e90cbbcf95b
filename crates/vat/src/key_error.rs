//! Why a secret key could not be had, in sentences which say what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// What is wrong with a key file, or with making a key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("cannot read the secret key file {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file could not be created.
    #[error("cannot create the secret key file {path:?}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file does not hold a usable key.
    #[error("the secret key file {path:?} cannot be used: {source}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KeyError>,
    },
    /// No `BEGIN ... PRIVATE KEY` block.
    #[error(
        "it holds no private key in PEM form (\"-----BEGIN PRIVATE KEY-----\"); if the file is not \
         a key, give the path of one that does not exist yet and a key is made there"
    )]
    NoKey,
    /// A key which needs a password.
    #[error(
        "the private key is encrypted with a password, which is not supported; \
         `openssl pkey -in KEY -out NEW` writes it without"
    )]
    Encrypted,
    /// NIST P-521, which our TLS library cannot serve.
    #[error(
        "it is a P-521 key, which is not supported: use RSA, P-256, P-384 or Ed25519 \
         (a new key means new .cap files for everybody)"
    )]
    P521,
    /// Another kind of key, or a damaged one.
    #[error(
        "the private key is damaged or of an unknown kind: use RSA (2048 bits or more), P-256, \
         P-384 or Ed25519; a P-256 or P-384 key must contain its public part"
    )]
    Unsupported,
    /// Making a key or its certificate failed.
    #[error("cannot make a key or its certificate: {0}")]
    Generate(String),
}
