//! The values of rows: a version byte, and then postcard in the form of that version.
//!
//! Bytes written here are read by every later version: change nothing without a new version byte, and keep reading the
//! older ones. Version 1 knew no durable jobs; its records and pauses are read with what they lacked left empty.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Cause, JobId, JobKind, JobRecord, JobState, JobTimes, Pause};

use super::rows::mark;

/// The version in which values are written.
pub(super) const VERSION: u8 = 2;

/// A value that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadValue {
    /// Its version byte is above ours.
    Newer(u32),
    /// It is no value of ours.
    Damaged,
}

/// Takes the version byte off.
fn split(bytes: &[u8]) -> Result<(u8, &[u8]), BadValue> {
    let (version, content) = bytes.split_first().ok_or(BadValue::Damaged)?;
    match *version {
        0 => Err(BadValue::Damaged),
        1..=VERSION => Ok((*version, content)),
        newer => Err(BadValue::Newer(newer.into())),
    }
}

fn decode<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Result<T, BadValue> {
    postcard::from_bytes(content).map_err(|_| BadValue::Damaged)
}

pub(super) fn value<T: Serialize>(content: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(content, vec![VERSION])
}

/// Reads a value whose form is the same in every version.
pub(super) fn read_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadValue> {
    decode(split(bytes)?.1)
}

/// A worker's value as it is written.
pub(super) fn worker_value(
    paused: bool,
    pause: Option<&Pause>,
) -> Result<Vec<u8>, postcard::Error> {
    value(&(paused, pause))
}

pub(super) fn read_worker(bytes: &[u8]) -> Result<(bool, Option<Pause>), BadValue> {
    match split(bytes)? {
        (1, content) => Ok((decode(content)?, None)),
        (_, content) => decode(content),
    }
}

pub(super) fn read_record(bytes: &[u8]) -> Result<JobRecord, BadValue> {
    match split(bytes)? {
        (1, content) => decode::<RecordV1>(content).map(RecordV1::into_record),
        (_, content) => decode(content),
    }
}

/// A sealed description as it is written: version, a mark over key and content, content. The mark is there because a
/// start does not verify descriptions.
pub(super) fn description_value(key: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + sealed.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&mark(key, sealed).to_be_bytes());
    bytes.extend_from_slice(sealed);
    bytes
}

pub(super) fn read_description<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], BadValue> {
    let (version, content) = split(bytes)?;
    let (expected, sealed) = content.split_first_chunk::<8>().ok_or(BadValue::Damaged)?;
    if version == 1 || u64::from_be_bytes(*expected) != mark(key, sealed) {
        return Err(BadValue::Damaged);
    }
    Ok(sealed)
}

/// A record as version 1 wrote it.
#[derive(Deserialize)]
struct RecordV1 {
    id: JobId,
    pool: String,
    client: String,
    hint: String,
    urgent: bool,
    kind: JobKind,
    state: JobState,
    cause: Option<Cause>,
    times: JobTimes,
    worker: Option<String>,
    attempt: u32,
    output: String,
    log_length: u64,
}

impl RecordV1 {
    fn into_record(self) -> JobRecord {
        JobRecord {
            hint: self.hint,
            urgent: self.urgent,
            state: self.state,
            cause: self.cause,
            times: self.times,
            worker: self.worker,
            attempt: self.attempt,
            output: self.output,
            log_length: self.log_length,
            ..JobRecord::queued(
                self.id,
                &self.pool,
                &self.client,
                self.kind,
                self.times.queued,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attempt, TimeLimits};

    #[test]
    fn a_value_of_a_newer_version_is_told_from_a_damaged_one() {
        assert_eq!(read_value::<bool>(&[1, 1]), Ok(true));
        assert_eq!(read_value::<bool>(&[2, 1]), Ok(true));
        assert_eq!(read_value::<bool>(&[3, 1]), Err(BadValue::Newer(3)));
        assert_eq!(read_value::<bool>(&[0, 1]), Err(BadValue::Damaged));
        assert_eq!(read_value::<bool>(&[1, 7]), Err(BadValue::Damaged));
        assert_eq!(read_value::<bool>(&[]), Err(BadValue::Damaged));
    }

    /// What both versions tell of a job.
    fn plain() -> JobRecord {
        JobRecord {
            hint: "h".to_owned(),
            urgent: true,
            state: JobState::Lost,
            cause: Some(Cause {
                code: "worker-lost".to_owned(),
                sentence: "s".to_owned(),
            }),
            times: JobTimes {
                queued: 1,
                assigned: None,
                started: Some(2),
                ended: Some(3),
            },
            worker: Some("w".to_owned()),
            attempt: 1,
            output: "o".to_owned(),
            log_length: 128,
            ..JobRecord::queued(
                JobId::new(300),
                "p",
                "c",
                JobKind::Custom("k".to_owned()),
                1,
            )
        }
    }

    const PLAIN: &[u8] = b"\xac\x02\x01p\x01c\x01h\x01\x02\x01k\x06\x01\x0bworker-lost\x01s\x01\x00\x01\x02\x01\x03\x01\x01w\x01\x01o\x80\x01";

    /// These bytes are on people's disks.
    #[test]
    fn what_version_1_wrote_can_be_read() {
        let bytes = [b"\x01", PLAIN].concat();
        assert_eq!(read_record(&bytes), Ok(plain()));
        assert_eq!(read_worker(b"\x01\x01"), Ok((true, None)));
        assert_eq!(read_worker(b"\x01\x00"), Ok((false, None)));
        assert_eq!(read_value::<u32>(b"\x01\x80\x01"), Ok(128));
    }

    /// These bytes are on people's disks. If this test fails, the form changed: give it a new version byte, and keep
    /// reading this one.
    #[test]
    fn the_form_of_version_2_stays_as_it_is() {
        let cause = |code: &str| Cause {
            code: code.to_owned(),
            sentence: "x".to_owned(),
        };
        let record = JobRecord {
            log_digest: Some([1; 32]),
            durable: true,
            fair_start: 1.5,
            limits: TimeLimits {
                running: Some(200),
                queued: None,
                silent: Some(3),
            },
            attempts: vec![Attempt {
                number: 1,
                worker: "v".to_owned(),
                started: 4,
                ended: 5,
                cause: cause("a"),
                log_start: 6,
                counts: true,
            }],
            log_start: 7,
            worker_identity: Some([2; 32]),
            key: Some("y".to_owned()),
            submission_digest: Some([3; 32]),
            stop: Some(cause("b")),
            ..plain()
        };
        let expected = [
            b"\x02".as_slice(),
            PLAIN,
            b"\x01",
            &[1; 32],
            b"\x01\0\0\0\0\0\0\xf8\x3f\x01\xc8\x01\0\x01\x03",
            b"\x01\x01\x01v\x04\x05\x01a\x01x\x06\x01",
            b"\x07\x01",
            &[2; 32],
            b"\x01\x01y\x01",
            &[3; 32],
            b"\x01\x01b\x01x",
        ]
        .concat();
        assert_eq!(value(&record).unwrap(), expected);
        assert_eq!(read_record(&expected), Ok(record));

        let pause = Pause {
            by: Some("me".to_owned()),
            why: None,
            since_ms: 300,
        };
        let paused = worker_value(true, Some(&pause)).unwrap();
        assert_eq!(paused, b"\x02\x01\x01\x01\x02me\0\xac\x02");
        assert_eq!(read_worker(&paused), Ok((true, Some(pause))));
        assert_eq!(worker_value(false, None).unwrap(), b"\x02\0\0");
    }

    #[test]
    fn a_description_that_was_altered_or_moved_is_noticed() {
        let bytes = description_value(b"s1", b"sealed");
        assert_eq!(bytes, b"\x02\xf7\x1f\xf9\x4a\x26\x26\xc7\x7fsealed");
        assert_eq!(read_description(b"s1", &bytes), Ok(b"sealed".as_slice()));
        assert_eq!(read_description(b"s2", &bytes), Err(BadValue::Damaged));
        for place in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[place] ^= 0x10;
            assert!(read_description(b"s1", &altered).is_err(), "at {place}");
            assert!(read_description(b"s1", &bytes[..place]).is_err());
        }
    }
}
