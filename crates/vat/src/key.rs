//! A vat's secret key: what its fingerprint and its derived service ids come from.
//!
//! The ids are derived from the bytes of the PEM file, so a key file is never rewritten once it
//! exists: another encoding of the same key would be another set of ids. Key material must never
//! reach a log line or an error message.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use rustls::SignatureAlgorithm;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::SigningKey;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{Digest, KeyError, ServiceId};

/// The DER encoding of the object identifier of NIST P-521 (1.3.132.0.35).
const P521_OID: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// A secret key. A clone is the same key.
#[derive(Clone)]
pub struct SecretKey(Arc<Inner>);

struct Inner {
    signing: Arc<dyn SigningKey>,
    spki: Vec<u8>,
    /// SHA-256 of the PEM text, the key of the derived ids' HMAC.
    secret: Zeroizing<[u8; 32]>,
}

impl SecretKey {
    /// Reads the key file; where there is none, makes a P-256 key and creates the file with mode
    /// 0600, never replacing one that appears meanwhile. The second value tells whether it was
    /// created.
    ///
    /// # Errors
    /// When the file cannot be read or created, or does not hold a key we can use.
    pub fn load_or_create(path: &Path) -> Result<(Self, bool), KeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok((key, false));
        }
        let pem = new_pem()?;
        match create_exclusively(path, pem.as_bytes()) {
            Ok(()) => Ok((Self::from_pem(pem.as_bytes())?, true)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => match Self::load(path)? {
                Some(key) => Ok((key, false)),
                None => Err(create_error(path, e)),
            },
            Err(e) => Err(create_error(path, e)),
        }
    }

    /// Reads a key file, if there is one.
    fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        let pem = match std::fs::read(path) {
            Ok(pem) => Zeroizing::new(pem),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(KeyError::Read {
                    path: path.into(),
                    source,
                });
            }
        };
        match Self::from_pem(&pem) {
            Ok(key) => Ok(Some(key)),
            Err(source) => Err(KeyError::BadFile {
                path: path.into(),
                source: Box::new(source),
            }),
        }
    }

    /// A new P-256 key which is written nowhere: its fingerprint and ids end with the process.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn ephemeral() -> Result<Self, KeyError> {
        Self::from_pem(new_pem()?.as_bytes())
    }

    /// A key from the bytes of a PEM file: PKCS#8, `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    ///
    /// # Errors
    /// When there is no key in it, or one of a kind we cannot serve.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            if contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
                KeyError::Encrypted
            } else {
                KeyError::NoKey
            }
        })?;
        if contains(pem, b"Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let signing = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| {
            if contains(der.secret_der(), P521_OID) {
                KeyError::P521
            } else {
                KeyError::Unsupported
            }
        })?;
        let spki = signing
            .public_key()
            .ok_or(KeyError::Unsupported)?
            .as_ref()
            .to_vec();
        Ok(Self(Arc::new(Inner {
            signing,
            spki,
            secret: Zeroizing::new(Sha256::digest(pem).into()),
        })))
    }

    /// The fingerprint under which peers know this vat.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_public_key(&self.0.spki)
    }

    /// The id of the service `name` of this vat, the same at every start: HMAC-SHA-256 of the name
    /// under the SHA-256 of the PEM file, as OCaml's vats derive theirs.
    #[must_use]
    pub fn derived_id(&self, name: &str) -> ServiceId {
        ServiceId::new(self.derived_secret(name).to_vec())
    }

    /// A secret of 32 bytes for another use than a service, the same at every start with the same key file: HMAC-SHA-256 of the
    /// label under the SHA-256 of the PEM file.
    ///
    /// These are the bytes that [`derived_id`](Self::derived_id) gives for a service of that name, so a label must be none.
    #[must_use]
    pub fn derived_secret(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&*self.0.secret) {
            Ok(mac) => mac,
            Err(hmac::digest::InvalidLength) => unreachable!("HMAC takes keys of any length"),
        };
        mac.update(label.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    pub(crate) fn signing(&self) -> &Arc<dyn SigningKey> {
        &self.0.signing
    }

    /// The public key as DER `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    pub(crate) fn kind(&self) -> SignatureAlgorithm {
        self.0.signing.algorithm()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.digest())
    }
}

fn create_error(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::Create {
        path: path.into(),
        source,
    }
}

/// A new P-256 key as PKCS#8 PEM: its handshakes cost a third of an RSA key's.
fn new_pem() -> Result<Zeroizing<String>, KeyError> {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|e| KeyError::Generate(e.to_string()))?;
    Ok(Zeroizing::new(pair.serialize_pem()))
}

/// Creates the file whole or not at all, with mode 0600, failing when it exists.
fn create_exclusively(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".key-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const FINGERPRINTS: &str = include_str!("../tests/vat/fixtures/keys/fingerprints.txt");
    const DERIVED_IDS: &str = include_str!("../tests/vat/fixtures/keys/derived-ids.txt");
    const RSA: &[u8] = include_bytes!("../tests/vat/fixtures/keys/rsa-pkcs8.pem");

    fn fixture(name: &str) -> Vec<u8> {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vat/fixtures/keys");
        std::fs::read(keys.join(name)).unwrap()
    }

    #[test]
    fn every_kind_of_key_has_the_fingerprint_openssl_computes() {
        let kinds = [
            "rsa-pkcs8.pem",
            "rsa-pkcs1.pem",
            "p256-pkcs8.pem",
            "p256-sec1.pem",
            "p384-pkcs8.pem",
            "p384-sec1.pem",
            "ed25519-pkcs8.pem",
        ];
        for name in kinds {
            let key = SecretKey::from_pem(&fixture(name)).unwrap();
            let line = FINGERPRINTS.lines().find(|line| line.starts_with(name));
            let expected = line.unwrap().split_once(' ').unwrap().1;
            assert_eq!(key.digest().to_string(), format!("sha-256:{expected}"));
            crate::certificate::self_signed(&key).unwrap();
        }
    }

    #[test]
    fn derived_ids_are_those_computed_independently() {
        let key = SecretKey::from_pem(RSA).unwrap();
        for line in DERIVED_IDS.lines() {
            let (name, id) = line.split_once(' ').unwrap();
            assert_eq!(key.derived_id(name).to_base64(), id);
        }
    }

    #[test]
    fn derived_ids_depend_on_every_byte_of_the_file() {
        let with_another_end = [RSA, b"\n"].concat();
        let (one, other) = (
            SecretKey::from_pem(RSA).unwrap(),
            SecretKey::from_pem(&with_another_end).unwrap(),
        );
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.derived_id("admin"), other.derived_id("admin"));
    }

    #[test]
    fn derived_secrets_differ_by_label_and_by_key() {
        let (one, other) = (
            SecretKey::from_pem(RSA).unwrap(),
            SecretKey::ephemeral().unwrap(),
        );
        assert_eq!(one.derived_secret("a"), one.clone().derived_secret("a"));
        assert_ne!(one.derived_secret("a"), one.derived_secret("b"));
        assert_ne!(one.derived_secret("a"), other.derived_secret("a"));
    }

    #[test]
    fn keys_we_cannot_serve_get_a_clear_error() {
        let refusals = [
            (
                "p521-pkcs8.pem",
                "it is a P-521 key, which is not supported",
            ),
            ("p521-sec1.pem", "it is a P-521 key, which is not supported"),
            (
                "encrypted.pem",
                "the private key is encrypted with a password",
            ),
            ("fingerprints.txt", "it holds no private key in PEM form"),
            ("p256-nopub-pkcs8.pem", "the private key is damaged"),
        ];
        for (name, expected) in refusals {
            let error = SecretKey::from_pem(&fixture(name)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{name}: {error}");
        }
    }

    #[test]
    fn a_key_file_is_created_once_and_then_kept_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let (made, created) = SecretKey::load_or_create(&path).unwrap();
        assert!(created);
        let bytes = std::fs::read(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(bytes.starts_with(b"-----BEGIN PRIVATE KEY-----"));

        let (loaded, created) = SecretKey::load_or_create(&path).unwrap();
        assert!(!created);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(loaded.digest(), made.digest());
        assert_eq!(loaded.derived_id("admin"), made.derived_id("admin"));
        assert_eq!(made.kind(), SignatureAlgorithm::ECDSA);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        std::fs::write(&path, RSA).unwrap();
        let error = create_exclusively(&path, b"other").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), RSA);
    }

    #[test]
    fn errors_name_the_file_and_say_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let junk = directory.path().join("junk.pem");
        std::fs::write(&junk, "hello").unwrap();
        let error = SecretKey::load_or_create(&junk).unwrap_err().to_string();
        assert!(
            error.contains("junk.pem") && error.contains("give the path"),
            "{error}"
        );
        assert_eq!(std::fs::read(&junk).unwrap(), b"hello", "left as it was");
        let nowhere = directory.path().join("no/such/key.pem");
        let error = SecretKey::load_or_create(&nowhere).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot create the secret key file"),
            "{error}"
        );
    }

    #[test]
    fn debug_shows_the_fingerprint_only() {
        let shown = format!("{:?}", SecretKey::from_pem(RSA).unwrap());
        assert_eq!(
            shown,
            "SecretKey(sha-256:iInRiGTiIuENWq-A4jYgm48eGmeYIyhDyEtPObY6Rms)"
        );
    }
}
