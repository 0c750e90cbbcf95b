//! A location together with the fingerprint which must answer there.

use std::fmt;

use crate::{Digest, Location};

/// Where a vat is and how it proves itself. Public: it gives no authority by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where to dial.
    pub location: Location,
    /// Whom to expect there.
    pub digest: Digest,
}

impl Address {
    /// A vat with this fingerprint at this location.
    #[must_use]
    pub fn new(location: Location, digest: Digest) -> Self {
        Self { location, digest }
    }
}

impl fmt::Display for Address {
    /// Writes the location alone, which is what a person wants to read: `tcp:HOST:PORT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}
