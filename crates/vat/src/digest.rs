//! The fingerprint of a vat: what a sturdy ref says about who must answer at an address.
//!
//! A digest is public. It must never be confused with a service id, which is a secret.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest as _, Sha256};

/// Base64url as OCaml writes it: never padded on output, with or without padding on input.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How a vat proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// It does not: the connection is plain text and anyone on the path can read and change it.
    Insecure,
    /// SHA-256 over the DER `SubjectPublicKeyInfo` of the vat's TLS key.
    Sha256([u8; 32]),
}

impl Digest {
    /// The digest of a public key given as DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn of_public_key(spki: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(spki).into())
    }

    /// Whether connections to this vat are encrypted and its key is checked.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Sha256(_))
    }
}

impl fmt::Display for Digest {
    /// Writes what stands before the `@` of a sturdy-ref URI: `sha-256:BASE64URL` or `insecure`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insecure => f.write_str("insecure"),
            Self::Sha256(hash) => write!(f, "sha-256:{}", BASE64.encode(hash)),
        }
    }
}
