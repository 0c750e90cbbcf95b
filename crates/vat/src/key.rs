//! key
use crate::{Digest, KeyError, ServiceId};
use std::path::Path;
/// A vat's secret key.
#[derive(Clone)]
pub struct SecretKey(());
impl SecretKey {
    /// Reads the key file, or creates it (mode 0600, exclusively) with a new P-256 key. The second
    /// value tells whether it was created.
    pub fn load_or_create(_path: &Path) -> Result<(Self, bool), KeyError> {
        todo!()
    }
    /// A new key which is written nowhere.
    pub fn ephemeral() -> Result<Self, KeyError> {
        todo!()
    }
    /// A key from the bytes of a PEM file.
    pub fn from_pem(_pem: &[u8]) -> Result<Self, KeyError> {
        todo!()
    }
    /// Fingerprint.
    pub fn digest(&self) -> Digest {
        todo!()
    }
    /// The id of the service `name`.
    pub fn derived_id(&self, _name: &str) -> ServiceId {
        todo!()
    }
}
