//! Cutting a byte stream into Cap'n Proto messages (the standard stream framing, never packed).
//!
//! Bytes come in pieces of any size. Memory for a message grows with the bytes that have really
//! arrived: a peer which announces a huge message and sends nothing must cost nothing.

use capnp::Word;
use capnp::message::{Reader, ReaderOptions, ReaderSegments};
use thiserror::Error;

const WORD: usize = 8;

/// The most segments of one message: what capnproto-rust and capnproto-c++ accept.
const MAX_SEGMENTS: usize = 512;

/// How far the buffer of an incomplete message may run ahead of what has arrived.
const GROWTH_WORDS: usize = 8 * 1024;

/// A whole message as it came, in segments.
pub(crate) struct Frame {
    words: Vec<Word>,
    /// Where each segment ends, in words.
    ends: Vec<usize>,
}

impl Frame {
    /// The size of its segments, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * WORD
    }

    /// A reader whose traversal limit leaves room for reading every part several times over.
    pub(crate) fn into_reader(self) -> Reader<Self> {
        const LEAST_WORDS: usize = 128 * 1024;
        const TIMES: usize = 8;
        let limit = self.words.len().saturating_mul(TIMES).max(LEAST_WORDS);
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(limit));
        Reader::new(self, options)
    }
}

impl ReaderSegments for Frame {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        let index = index as usize;
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.words.get(start..end).map(Word::words_to_bytes)
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// What a peer sent that is not a message we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error(
        "message of {bytes} bytes is larger than the limit of {limit} bytes (max_message_bytes)"
    )]
    TooLarge { bytes: u64, limit: usize },
    #[error("not a Cap'n Proto message: it claims to have {0} segments")]
    TooManySegments(u64),
    #[error(
        "the peer speaks TLS on a connection without: one side has a sturdy ref or a setting with \
         TLS, the other without"
    )]
    Tls,
}

/// The part of a message that has arrived so far.
#[derive(Default)]
pub(crate) struct FrameReader {
    state: State,
}

enum State {
    /// Collecting the segment table.
    Header(Vec<u8>),
    /// Collecting the segments.
    Body {
        frame: Frame,
        total_words: usize,
        filled_bytes: usize,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Header(Vec::new())
    }
}

impl FrameReader {
    /// Whether nothing of a further message has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.state, State::Header(header) if header.is_empty())
    }

    /// Takes bytes off the front of `input` up to the end of the next message, and gives that
    /// message; or takes them all and gives nothing when the message is not complete yet.
    pub(crate) fn next(
        &mut self,
        input: &mut &[u8],
        limit_bytes: usize,
    ) -> Result<Option<Frame>, FrameError> {
        loop {
            match &mut self.state {
                State::Header(header) => {
                    let Some(needed) = header_size(header)? else {
                        if !take(input, header, 4) {
                            return Ok(None);
                        }
                        continue;
                    };
                    if header.len() < needed && !take(input, header, needed) {
                        return Ok(None);
                    }
                    let (ends, total_words) = segment_ends(header, limit_bytes)?;
                    let words = Vec::new();
                    self.state = State::Body {
                        frame: Frame { words, ends },
                        total_words,
                        filled_bytes: 0,
                    };
                }
                State::Body {
                    frame,
                    total_words,
                    filled_bytes,
                } => {
                    fill(input, &mut frame.words, *total_words, filled_bytes);
                    if *filled_bytes < *total_words * WORD {
                        return Ok(None);
                    }
                    let done = std::mem::take(&mut self.state);
                    return Ok(match done {
                        State::Body { frame, .. } => Some(frame),
                        State::Header(_) => None,
                    });
                }
            }
        }
    }
}

/// Moves bytes from `input` until `to` has `size` of them. Tells whether it has.
fn take(input: &mut &[u8], to: &mut Vec<u8>, size: usize) -> bool {
    let missing = size.saturating_sub(to.len());
    let (now, later) = input.split_at(missing.min(input.len()));
    to.extend_from_slice(now);
    *input = later;
    to.len() >= size
}

/// Moves bytes from `input` into the segments, growing them as needed.
fn fill(input: &mut &[u8], words: &mut Vec<Word>, total_words: usize, filled: &mut usize) {
    while !input.is_empty() && *filled < total_words * WORD {
        if *filled == words.len() * WORD {
            let more = input
                .len()
                .div_ceil(WORD)
                .max(GROWTH_WORDS)
                .max(words.len());
            let size = total_words.min(words.len() + more);
            words.reserve_exact(size - words.len());
            words.resize(size, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
        }
        let free = Word::words_to_bytes_mut(words)
            .get_mut(*filled..)
            .unwrap_or_default();
        let count = free.len().min(input.len());
        let (now, later) = input.split_at(count);
        if let Some(free) = free.get_mut(..count) {
            free.copy_from_slice(now);
        }
        *filled += count;
        *input = later;
    }
}

fn read_u32(bytes: &[u8], index: usize) -> Option<u32> {
    let at = index * 4;
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// The size of the segment table, known once its first four bytes are there.
fn header_size(header: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(last) = read_u32(header, 0) else {
        return Ok(None);
    };
    let segments = u64::from(last) + 1;
    match usize::try_from(segments) {
        Ok(segments) if segments < MAX_SEGMENTS => {
            Ok(Some(((segments + 1) * 4).next_multiple_of(WORD)))
        }
        _ if looks_like_tls(header) => Err(FrameError::Tls),
        _ => Err(FrameError::TooManySegments(segments)),
    }
}

fn segment_ends(header: &[u8], limit: usize) -> Result<(Vec<usize>, usize), FrameError> {
    let segments = read_u32(header, 0).unwrap_or_default() as usize + 1;
    let mut ends = Vec::with_capacity(segments);
    let mut total: u64 = 0;
    for index in 1..=segments {
        total += u64::from(read_u32(header, index).unwrap_or_default());
        let bytes = total.saturating_mul(WORD as u64);
        if bytes > limit as u64 {
            return Err(FrameError::TooLarge { bytes, limit });
        }
        ends.push(total as usize);
    }
    Ok((ends, total as usize))
}

/// Whether these are the first bytes of a TLS record: its type (alert, handshake, ...) and version.
fn looks_like_tls(header: &[u8]) -> bool {
    matches!(header, [0x14..=0x17, 0x03, ..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn message(segments: &[&[u8]]) -> Vec<u8> {
        let mut bytes = (segments.len() as u32 - 1).to_le_bytes().to_vec();
        for segment in segments {
            bytes.extend((segment.len() as u32 / 8).to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(segments.concat());
        bytes
    }

    #[test]
    fn messages_come_out_whole_however_the_bytes_are_cut() {
        let one = message(&[&[1; 16], &[2; 8]]);
        let two = message(&[&[3; 80_000]]);
        let none = message(&[&[]]);
        let stream = [one, two, none].concat();
        for cut in [1, 3, 7, 8, 1000, stream.len()] {
            let mut reader = FrameReader::default();
            let mut frames = Vec::new();
            for mut piece in stream.chunks(cut) {
                while let Some(frame) = reader.next(&mut piece, 100_000).unwrap() {
                    frames.push(frame);
                }
                assert!(piece.is_empty());
            }
            assert!(reader.is_empty());
            let sizes: Vec<_> = frames.iter().map(Frame::bytes).collect();
            assert_eq!(sizes, [24, 80_000, 0]);
            assert_eq!(frames[0].get_segment(0).unwrap(), [1; 16]);
            assert_eq!(frames[0].get_segment(1).unwrap(), [2; 8]);
            assert_eq!(frames[0].get_segment(2), None);
        }
    }

    #[test]
    fn an_announced_message_costs_nothing_until_it_comes() {
        let mut reader = FrameReader::default();
        let mut header: &[u8] = &[0, 0, 0, 0, 0, 0, 0x80, 0];
        assert!(reader.next(&mut header, usize::MAX).unwrap().is_none());
        let State::Body { frame, .. } = &reader.state else {
            panic!("no body");
        };
        assert_eq!(frame.words.capacity(), 0);
        assert!(
            reader
                .next(&mut [1_u8; 100].as_slice(), usize::MAX)
                .unwrap()
                .is_none()
        );
        let State::Body { frame, .. } = &reader.state else {
            panic!("no body");
        };
        assert!(frame.words.capacity() <= GROWTH_WORDS);
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let read = |mut bytes: &[u8]| FrameReader::default().next(&mut bytes, 100).err().unwrap();
        let too_large = FrameError::TooLarge {
            bytes: 104,
            limit: 100,
        };
        assert_eq!(read(&[0, 0, 0, 0, 13, 0, 0, 0]), too_large);
        assert_eq!(read(&[0, 2, 0, 0]), FrameError::TooManySegments(513));
        assert_eq!(read(b"GET /"), FrameError::TooManySegments(0x2054_4547 + 1));
        assert_eq!(read(&[0x16, 3, 1, 2]), FrameError::Tls);
        assert_eq!(read(&[0x15, 3, 3, 0]), FrameError::Tls);
    }
}
