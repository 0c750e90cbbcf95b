//! The self-signed certificate a vat shows: nothing but a wrapper around its public key.
//!
//! Made afresh at each start. Peers look at the key alone; names and dates are those OCaml's vats
//! write (`CN=capnp`, 1970 to 9999, no extensions).

use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SerialNumber};
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{Digest, KeyError, SecretKey, ServiceId};

/// Makes the certificate of `key`.
pub(crate) fn self_signed(key: &SecretKey) -> Result<CertificateDer<'static>, KeyError> {
    let failed = |e: rcgen::Error| KeyError::Generate(e.to_string());
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "capnp");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let serial = ServiceId::random().map_err(|e| KeyError::Generate(e.to_string()))?;
    let serial: Vec<u8> = serial.as_bytes().iter().copied().take(8).collect();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let signer = CertificateSigner::new(key)?;
    let certificate = params.self_signed(&signer).map_err(failed)?;
    Ok(certificate.der().clone())
}

/// The fingerprint of the key in a peer's certificate.
pub(crate) fn digest_of(certificate: &CertificateDer<'_>) -> Option<Digest> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Digest::of_public_key(parsed.public_key().raw))
}

/// Lets rcgen sign with a key which rustls has read.
struct CertificateSigner<'a> {
    key: &'a SecretKey,
    public_key: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
    scheme: SignatureScheme,
}

impl<'a> CertificateSigner<'a> {
    fn new(key: &'a SecretKey) -> Result<Self, KeyError> {
        use rustls::SignatureAlgorithm as Kind;
        let offers = |scheme| key.signing().choose_scheme(&[scheme]).is_some();
        let (algorithm, scheme) = match key.kind() {
            Kind::RSA => (&rcgen::PKCS_RSA_SHA256, SignatureScheme::RSA_PKCS1_SHA256),
            Kind::ED25519 => (&rcgen::PKCS_ED25519, SignatureScheme::ED25519),
            Kind::ECDSA if offers(SignatureScheme::ECDSA_NISTP256_SHA256) => (
                &rcgen::PKCS_ECDSA_P256_SHA256,
                SignatureScheme::ECDSA_NISTP256_SHA256,
            ),
            Kind::ECDSA => (
                &rcgen::PKCS_ECDSA_P384_SHA384,
                SignatureScheme::ECDSA_NISTP384_SHA384,
            ),
            _ => return Err(KeyError::Unsupported),
        };
        let (_, spki) =
            SubjectPublicKeyInfo::from_der(key.spki()).map_err(|_| KeyError::Unsupported)?;
        Ok(Self {
            key,
            public_key: spki.subject_public_key.data.to_vec(),
            algorithm,
            scheme,
        })
    }
}

impl PublicKeyData for CertificateSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for CertificateSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key
            .signing()
            .choose_scheme(&[self.scheme])
            .and_then(|signer| signer.sign(message).ok())
            .ok_or(rcgen::Error::RemoteKeyError)
    }
}
