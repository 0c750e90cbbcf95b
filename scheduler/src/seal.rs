//! Sealing of job descriptions, so that the disk holds none of the secrets and sources that clients hand in.
//!
//! The key is derived from the vat's secret key: whoever has the state directory alone can read no description, and whoever changes
//! the key file can open none of those that were sealed before. Nothing here knows what a description says, and neither a key nor a
//! plain description may reach a log line, an error or a `Debug` print.
//!
//! A sealed description is a version byte, the four bytes that name the key, a random nonce, and AES-256-GCM's ciphertext and tag.
//! Each job has a key of its own (HMAC-SHA-256 of its number), so that no number of jobs brings random nonces near their birthday
//! bound; what stands before the ciphertext, and the job's number, are authenticated with it.

use std::fmt;

use ocluster_store::JobId;
use ocluster_vat::SecretKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// What the key is for, said to the vat's secret when it is derived. Another text is another key.
const LABEL: &str = "ocluster job descriptions 1";

/// The only way of sealing so far.
const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
/// What stands before the ciphertext: version, key id, nonce.
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// The public name of a sealing key: tells keys apart, and nothing about them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a description could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The vat's secret key was another one when it was sealed.
    #[error(
        "the description of job {job} was sealed under another secret key (key {found}, and the present one is {present}); \
         it can only be read by a scheduler that has the secret key file of that time"
    )]
    OtherKey {
        /// The job.
        job: JobId,
        /// The key it was sealed under.
        found: KeyId,
        /// The key of this process.
        present: KeyId,
    },
    /// A later version of this program sealed it.
    #[error(
        "the description of job {job} was sealed by a newer version of this program (form {version}, and this one knows {VERSION}); use that version"
    )]
    Newer {
        /// The job.
        job: JobId,
        /// The form found.
        version: u8,
    },
    /// It is not what was sealed for this job.
    #[error(
        "the stored description of job {job} is damaged or belongs to another job; submit the job again"
    )]
    Damaged {
        /// The job.
        job: JobId,
    },
    /// The operating system gave no random bytes, or the description is larger than can be sealed (64 GiB).
    #[error(
        "the description of job {job} cannot be sealed: the operating system gives no random bytes"
    )]
    Unable {
        /// The job.
        job: JobId,
    },
}

/// Seals and opens descriptions. Can be used from any thread.
pub struct Seal {
    secret: Zeroizing<[u8; 32]>,
    key_id: KeyId,
}

impl Seal {
    /// The seal that belongs to a vat's secret key: the same at every start with the same key file, byte for byte.
    #[must_use]
    pub fn derive(key: &SecretKey) -> Self {
        let secret = key.derived_secret(LABEL);
        let name = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*secret), b"key id");
        let mut key_id = [0; KEY_ID_LEN];
        for (to, from) in key_id.iter_mut().zip(name.as_ref()) {
            *to = *from;
        }
        Self {
            secret,
            key_id: KeyId(key_id),
        }
    }

    /// The public name of the key in use.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Seals what only [`open`](Self::open) for the same job gives back. The result is 33 bytes longer, and another one each time.
    ///
    /// # Errors
    /// [`SealError::Unable`], which no healthy system gives.
    pub fn seal(&self, job: JobId, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let unable = |_| SealError::Unable { job };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(unable)?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.key_id.0);
        sealed.extend_from_slice(&nonce);
        let authenticated = authenticated(&sealed, job);
        // Encrypted where it lies, so that no plain copy is left in freed memory.
        sealed.extend_from_slice(plain);
        let (_, text) = sealed.split_at_mut(HEADER_LEN);
        let tag = self
            .key_of(job)
            .map_err(unable)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(authenticated),
                text,
            )
            .map_err(unable)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// What was sealed for this job. It is wiped from memory when it is dropped.
    ///
    /// # Errors
    /// If it was sealed under another key or by a newer program, or is not what was sealed for this job.
    pub fn open(&self, job: JobId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let damaged = || SealError::Damaged { job };
        let version = *sealed.first().ok_or_else(damaged)?;
        if version == 0 {
            return Err(damaged());
        }
        if version != VERSION {
            return Err(SealError::Newer { job, version });
        }
        let (header, text) = sealed.split_at_checked(HEADER_LEN).ok_or_else(damaged)?;
        let (_, named) = header.split_first().ok_or_else(damaged)?;
        let (found, nonce) = named.split_first_chunk().ok_or_else(damaged)?;
        if *found != self.key_id.0 {
            return Err(SealError::OtherKey {
                job,
                found: KeyId(*found),
                present: self.key_id,
            });
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut plain = Zeroizing::new(text.to_vec());
        let length = self
            .key_of(job)
            .and_then(|key| {
                key.open_in_place(nonce, Aad::from(authenticated(header, job)), &mut plain)
                    .map(|opened| opened.len())
            })
            .map_err(|_| damaged())?;
        plain.truncate(length);
        Ok(plain)
    }

    fn key_of(&self, job: JobId) -> Result<LessSafeKey, ring::error::Unspecified> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &*self.secret);
        let mut of_job = hmac::Context::with_key(&root);
        of_job.update(b"job");
        of_job.update(&job.get().to_be_bytes());
        UnboundKey::new(&AES_256_GCM, of_job.sign().as_ref()).map(LessSafeKey::new)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal(key {})", self.key_id)
    }
}

/// What a description cannot be parted from: the header before it, and the job it belongs to.
fn authenticated(header: &[u8], job: JobId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(header.len() + 8);
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&job.get().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId::new(7);

    fn seal() -> Seal {
        Seal::derive(&SecretKey::ephemeral().unwrap())
    }

    #[test]
    fn what_was_sealed_is_opened_for_the_same_job() {
        let seal = seal();
        for plain in [&b""[..], b"x", &[0xa5; 100_000]] {
            let sealed = seal.seal(JOB, plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + 33);
            assert_eq!(*seal.open(JOB, &sealed).unwrap(), plain);
        }
    }

    #[test]
    fn nothing_of_a_description_can_be_seen_and_two_of_the_same_look_different() {
        let seal = seal();
        let plain = [b'p'; 64];
        let one = seal.seal(JOB, &plain).unwrap();
        assert!(!one.windows(4).any(|window| window == b"pppp"));
        assert_ne!(one, seal.seal(JOB, &plain).unwrap());
        assert_eq!(
            format!("{seal:?}"),
            format!("Seal(key {})", seal.key_id()),
            "nothing of the key"
        );
    }

    #[test]
    fn the_seal_is_the_same_after_a_restart_with_the_same_key() {
        let key = SecretKey::ephemeral().unwrap();
        let sealed = Seal::derive(&key).seal(JOB, b"build").unwrap();
        assert_eq!(
            *Seal::derive(&key.clone()).open(JOB, &sealed).unwrap(),
            b"build"
        );
    }

    #[test]
    fn every_changed_bit_and_every_missing_byte_is_noticed() {
        let seal = seal();
        let sealed = seal.seal(JOB, b"build").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                seal.open(JOB, &changed).unwrap_err();
            }
            assert_eq!(
                seal.open(JOB, &sealed[..at]),
                Err(SealError::Damaged { job: JOB })
            );
        }
        let longer = [&sealed[..], b"x"].concat();
        assert_eq!(
            seal.open(JOB, &longer),
            Err(SealError::Damaged { job: JOB })
        );
    }

    #[test]
    fn descriptions_of_two_jobs_cannot_be_swapped() {
        let seal = seal();
        let sealed = seal.seal(JOB, b"build").unwrap();
        let other = JobId::new(8);
        assert_eq!(
            seal.open(other, &sealed).unwrap_err().to_string(),
            format!(
                "the stored description of job {other} is damaged or belongs to another job; submit the job again"
            )
        );
    }

    #[test]
    fn another_key_is_named_in_the_error() {
        let (ours, theirs) = (seal(), seal());
        let sealed = theirs.seal(JOB, b"build").unwrap();
        let error = ours.open(JOB, &sealed).unwrap_err();
        assert_eq!(
            error,
            SealError::OtherKey {
                job: JOB,
                found: theirs.key_id(),
                present: ours.key_id(),
            }
        );
        assert_eq!(
            error.to_string(),
            format!(
                "the description of job {JOB} was sealed under another secret key (key {}, and the present one is {}); \
                 it can only be read by a scheduler that has the secret key file of that time",
                theirs.key_id(),
                ours.key_id()
            )
        );
    }

    #[test]
    fn a_key_of_the_same_name_is_still_another_key() {
        let mut ours = seal();
        let theirs = seal();
        let sealed = theirs.seal(JOB, b"build").unwrap();
        ours.key_id = theirs.key_id;
        assert_eq!(
            ours.open(JOB, &sealed),
            Err(SealError::Damaged { job: JOB })
        );
    }

    #[test]
    fn a_newer_form_is_not_taken_for_damage() {
        let seal = seal();
        let mut sealed = seal.seal(JOB, b"build").unwrap();
        sealed[0] = 2;
        assert_eq!(
            seal.open(JOB, &sealed),
            Err(SealError::Newer {
                job: JOB,
                version: 2
            })
        );
    }
}
