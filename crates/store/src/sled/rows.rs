//! The keys of rows, which sort, and the marks that add up to the index's digest. Values are in `values`.
//!
//! A key is a letter for the kind of row and then its parts: numbers big-endian, texts with their length in front, so
//! that no text can run into the next. Keys written here are read by every later version: a letter never changes its
//! meaning.

use serde::Serialize;

use crate::JobId;

/// Known workers: pool, name -> paused, and what is known of the pause.
pub(super) const WORKER: u8 = b'w';
/// Hints: pool, hint, worker -> day.
pub(super) const HINT: u8 = b'h';
/// Hints by age: day, pool, hint, worker -> nothing. Can be derived, and is in no digest.
pub(super) const HINT_DAY: u8 = b'd';
/// Rates: pool, client -> rate.
pub(super) const RATE: u8 = b'r';
/// When clients' next jobs may fairly start: pool, client -> time.
pub(super) const DEBT: u8 = b'f';
/// Clients' sturdy refs: hash -> client, day.
pub(super) const CLIENT: u8 = b'c';
/// Jobs that have not ended: id -> record.
pub(super) const OPEN_JOB: u8 = b'o';
/// Jobs that have ended, out of the range a start reads: id -> record.
pub(super) const ENDED_JOB: u8 = b'e';
/// Sealed descriptions of durable jobs that have not ended, out of the range a start reads: id -> description.
pub(super) const DESCRIPTION: u8 = b's';
/// Clients' own keys for their jobs: client, key -> id. Can be derived from the records, and is in no digest.
pub(super) const JOB_KEY: u8 = b'k';
/// The one row about the others: -> `Meta`.
pub(super) const META: u8 = b'm';

/// The kinds of rows a start reads and verifies.
pub(super) const INDEX: [u8; 6] = [WORKER, HINT, RATE, DEBT, CLIENT, OPEN_JOB];

/// What the store knows about its own rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
pub(super) struct Meta {
    /// Batches applied so far.
    pub(super) batch: u64,
    /// The next job id.
    pub(super) next_job_id: u64,
    /// Rows of the index.
    pub(super) rows: u64,
    /// The sum of the marks of all rows of the index.
    pub(super) digest: u64,
}

/// A key under construction.
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        // Texts come in messages far below four gigabytes.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn day(mut self, day: u32) -> Self {
        self.0.extend_from_slice(&day.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

pub(super) fn job_key(kind: u8, id: JobId) -> Vec<u8> {
    Key::new(kind).raw(&id.get().to_be_bytes()).done()
}

/// The row of a client's own key for a job.
pub(super) fn client_key(client: &str, key: &str) -> Vec<u8> {
    Key::new(JOB_KEY).text(client).text(key).done()
}

/// The id in a key that [`job_key`] made.
pub(super) fn id_of(key: &[u8]) -> Option<JobId> {
    let (_, id) = key.split_first()?;
    Some(JobId::new(u64::from_be_bytes(id.try_into().ok()?)))
}

/// Takes a key apart, from the front. `None` means that it is not a key of ours.
pub(super) struct KeyParts<'a>(&'a [u8]);

impl<'a> KeyParts<'a> {
    /// Skips the letter.
    pub(super) fn of(key: &'a [u8]) -> Option<Self> {
        Some(Self(key.split_first()?.1))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.day()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    pub(super) fn day(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// Everything that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The texts a key is made of.
pub(super) fn names<const N: usize>(key: &[u8]) -> Option<[String; N]> {
    let mut parts = KeyParts::of(key)?;
    let mut names = [const { String::new() }; N];
    for name in &mut names {
        *name = parts.text()?;
    }
    parts.end()?;
    Some(names)
}

/// A row's share of the digest: FNV-1a over the key's length, the key and the value. The shares are added up, so a
/// change costs the rows it touches and not the whole index. It guards against accidents, not against an enemy.
pub(super) fn mark(key: &[u8], value: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let length = (key.len() as u64).to_be_bytes();
    let bytes = length.iter().chain(key).chain(value);
    bytes.fold(OFFSET, |mark, byte| {
        (mark ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_keys_never_run_into_each_other() {
        let one = Key::new(WORKER).text("a").text("bc").done();
        let other = Key::new(WORKER).text("ab").text("c").done();
        assert_ne!(one, other);
        let mut parts = KeyParts::of(&one).unwrap();
        assert_eq!(parts.text().unwrap(), "a");
        assert_eq!(parts.text().unwrap(), "bc");
        assert_eq!(parts.end(), Some(()));
    }

    /// These bytes are on people's disks.
    #[test]
    fn keys_on_disk_stay_as_they_are() {
        assert_eq!(job_key(OPEN_JOB, JobId::new(300)), b"o\0\0\0\0\0\0\x01\x2c");
        assert_eq!(
            id_of(&job_key(DESCRIPTION, JobId::new(300))),
            Some(JobId::new(300))
        );
        assert_eq!(client_key("al", "k"), b"k\0\0\0\x02al\0\0\0\x01k");
        assert_eq!(
            String::from_utf8_lossy(&[
                WORKER,
                HINT,
                HINT_DAY,
                RATE,
                DEBT,
                CLIENT,
                OPEN_JOB,
                ENDED_JOB,
                DESCRIPTION,
                JOB_KEY,
                META
            ]),
            "whdrfcoeskm"
        );
    }
}
