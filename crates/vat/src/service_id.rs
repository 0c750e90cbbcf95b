//! The secret part of a sturdy ref: whoever knows it may use the service.
//!
//! A service id must never reach a log line, an error message or a `Debug` print.

use std::fmt;

use base64::Engine as _;
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroize as _;

use crate::digest::BASE64;

/// The number of random bytes in an id made by [`ServiceId::random`], as OCaml makes them.
pub const RANDOM_ID_BYTES: usize = 20;

/// The raw bytes which name a service to the vat that offers it. Empty means the public service.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServiceId(Vec<u8>);

impl ServiceId {
    /// An id of exactly these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// A fresh unguessable id of [`RANDOM_ID_BYTES`] bytes.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = vec![0; RANDOM_ID_BYTES];
        rand::rngs::OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The raw bytes, as they travel in a `Bootstrap` message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the id: what may be stored, and what look-ups compare, so that neither a stolen
    /// table nor the time a look-up takes gives the id away.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Self::hash_of(&self.0)
    }

    /// [`ServiceId::hash`] of an id given as raw bytes.
    #[must_use]
    pub fn hash_of(id: &[u8]) -> [u8; 32] {
        Sha256::digest(id).into()
    }

    /// The id as the last segment of a sturdy-ref URI: base64url without padding.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl Drop for ServiceId {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceId(<secret>)")
    }
}
