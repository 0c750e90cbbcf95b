//! The form of a log in a pack: a header line of 80 bytes, the log's bytes, the reason if it broke, and a line feed.
//!
//! ```text
//! ocluster-packed 1 + closed 00000000000000000042 00060 00000000000000000000 0000\n   id, length, dropped, length of the reason
//! ```
//!
//! A pack is such entries, one behind the other, and nothing else: a person can read it with `less`. Only whole logs are put there,
//! `closed` or `broken` ones, whose entries are one page at most. The sign before the state is the one byte of an entry that ever
//! changes: `-` in place of `+` says that the log was removed. (One byte cannot be half written, by whatever kill.) When an id comes
//! twice, because it was removed and used again, the last entry counts.
//!
//! A kill can leave a torn entry at the pack's end: the file ends before the entry does. Nobody was told that its log is recorded; it
//! is not there, and whoever appends next cuts it off. An entry that is wrong in any other way was not left by a kill: nothing from
//! there on is read, changed or added to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::layout;
use crate::{End, LogInfo, file};

/// Bytes of an entry's header line.
pub(crate) const HEADER: u64 = 80;
/// The largest entry, in bytes.
pub(crate) const LARGEST: u64 = 4096;
/// The place of the sign in the header line.
pub(crate) const SIGN: u64 = MAGIC.len() as u64;
/// The sign of a log that was removed.
pub(crate) const REMOVED: u8 = b'-';
const MAGIC: &str = "ocluster-packed 1 ";
/// Bytes of a pack that are read at once to find what is in it.
const WINDOW: usize = 64 << 10;

/// What the header line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    /// Whether the log is there still.
    pub(crate) kept: bool,
    /// Whether it ended for a reason, which follows its bytes.
    pub(crate) broken: bool,
    /// Bytes a reader can get.
    pub(crate) length: u64,
    /// Bytes dropped past the size limit.
    pub(crate) dropped: u64,
    /// Bytes of the reason.
    pub(crate) reason: u64,
}

/// A whole log on its way into a pack.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) entry: Entry,
    pub(crate) pieces: &'a [Bytes],
    pub(crate) reason: &'a [u8],
}

impl<'a> Whole<'a> {
    /// A log that has ended so. `None`: it is too large for a pack.
    pub(crate) fn new(id: u64, pieces: &'a [Bytes], dropped: u64, end: &'a End) -> Option<Self> {
        let reason = file::trailer(Some(end));
        let entry = Entry {
            id,
            kept: true,
            broken: matches!(end, End::Broken { .. }),
            length: pieces.iter().map(|piece| piece.len() as u64).sum(),
            dropped,
            reason: reason.len() as u64,
        };
        (entry.size() <= LARGEST).then_some(Self {
            entry,
            pieces,
            reason,
        })
    }

    /// Adds the entry to `buffer`.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.entry.line().as_bytes());
        for piece in self.pieces {
            buffer.extend_from_slice(piece);
        }
        buffer.extend_from_slice(self.reason);
        buffer.push(b'\n');
    }
}

impl Entry {
    /// Bytes of the whole entry.
    pub(crate) fn size(&self) -> u64 {
        HEADER
            .saturating_add(self.length)
            .saturating_add(self.reason)
            .saturating_add(1)
    }

    fn line(&self) -> String {
        let sign = if self.kept { '+' } else { char::from(REMOVED) };
        let state = if self.broken { "broken" } else { "closed" };
        format!(
            "{MAGIC}{sign} {state} {:020} {:05} {:020} {:04}\n",
            self.id, self.length, self.dropped, self.reason
        )
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.strip_prefix(MAGIC)?.strip_suffix('\n')?.split(' ');
        let kept = match fields.next()? {
            "+" => true,
            "-" => false,
            _ => return None,
        };
        let broken = match fields.next()? {
            "broken" => true,
            "closed" => false,
            _ => return None,
        };
        let entry = Self {
            kept,
            broken,
            id: number(fields.next()?, 20)?,
            length: number(fields.next()?, 5)?,
            dropped: number(fields.next()?, 20)?,
            reason: number(fields.next()?, 4)?,
        };
        let sound = fields.next().is_none()
            && entry.size() <= LARGEST
            && (entry.broken || entry.reason == 0);
        sound.then_some(entry)
    }

    /// Reads the entry at this place of a pack again, where one was found before.
    ///
    /// # Errors
    /// The system's error, or that there is none.
    pub(crate) fn read(pack: &File, place: u64) -> io::Result<Self> {
        let mut line = [0; HEADER as usize];
        pack.read_exact_at(&mut line, place)?;
        let changed = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "something else changed its pack",
            )
        };
        Self::parse(&line).ok_or_else(changed)
    }

    /// What is known of the log whose entry is at this place of a pack.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn info(&self, pack: &File, place: u64) -> io::Result<LogInfo> {
        let end = if self.broken {
            let mut reason = vec![0; usize::try_from(self.reason).unwrap_or(0)];
            pack.read_exact_at(&mut reason, place + HEADER + self.length)?;
            file::broken(&reason)
        } else {
            End::Closed
        };
        Ok(LogInfo {
            id: self.id,
            length: self.length,
            dropped: self.dropped,
            end: Some(end),
            live: false,
            digest: None,
        })
    }
}

/// A number of exactly so many digits.
fn number(field: &str, digits: usize) -> Option<u64> {
    let plain = field.len() == digits && field.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| field.parse().ok()).flatten()
}

/// What comes after the last whole entry of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// The beginning of an entry that a kill has cut off.
    Torn,
    /// Something that is no entry.
    Strange,
}

/// Goes through the entries of a pack, removed ones too.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    pack: &'a File,
    range: u64,
    /// Bytes of the pack when this began.
    size: u64,
    /// Where the next entry begins.
    place: u64,
    /// Some bytes of the pack, and where they begin.
    window: Vec<u8>,
    window_place: u64,
    rest: Rest,
}

impl<'a> Entries<'a> {
    /// # Errors
    /// The system's error.
    pub(crate) fn new(pack: &'a File, range: u64) -> io::Result<Self> {
        Ok(Self {
            pack,
            range,
            size: pack.metadata()?.len(),
            place: 0,
            window: Vec::new(),
            window_place: 0,
            rest: Rest::Nothing,
        })
    }

    /// The next entry and its place. `None` after the last whole one.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn advance(&mut self) -> io::Result<Option<(u64, Entry)>> {
        if self.place >= self.size {
            return Ok(None);
        }
        let (place, range) = (self.place, self.range);
        let seen = self.look()?;
        let rest = match seen.get(..HEADER as usize).map(Entry::parse) {
            None => Rest::Torn,
            Some(Some(entry)) if layout::range(entry.id) == range => {
                let last = usize::try_from(entry.size() - 1).unwrap_or(usize::MAX);
                match seen.get(last) {
                    Some(b'\n') => {
                        self.place = place + entry.size();
                        return Ok(Some((place, entry)));
                    }
                    Some(_) => Rest::Strange,
                    None => Rest::Torn,
                }
            }
            Some(_) => Rest::Strange,
        };
        self.rest = rest;
        Ok(None)
    }

    /// Where the last whole entry ends, once there was no other.
    pub(crate) fn end(&self) -> u64 {
        self.place
    }

    /// What comes there.
    pub(crate) fn rest(&self) -> Rest {
        self.rest
    }

    /// As many bytes from the next entry's place on as an entry can have, or all there are.
    fn look(&mut self) -> io::Result<&[u8]> {
        let wanted = usize::try_from((self.size - self.place).min(LARGEST)).unwrap_or(0);
        let mut skip = usize::try_from(self.place - self.window_place).unwrap_or(usize::MAX);
        if self.window.len() < skip.saturating_add(wanted) {
            self.fill()?;
            skip = 0;
        }
        let seen = self.window.get(skip..).unwrap_or_default();
        Ok(seen.get(..wanted).unwrap_or(seen))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.window.resize(WINDOW, 0);
        self.window_place = self.place;
        let mut filled = 0;
        while let Some(room) = self
            .window
            .get_mut(filled..)
            .filter(|room| !room.is_empty())
        {
            match self.pack.read_at(room, self.place + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry {
        id: 42,
        kept: true,
        broken: true,
        length: 60,
        dropped: u64::MAX,
        reason: 7,
    };

    #[test]
    fn the_header_is_always_one_line_of_80_bytes_and_says_what_it_was_told() {
        let entries = [
            ENTRY,
            Entry {
                id: u64::MAX,
                kept: false,
                broken: false,
                length: LARGEST - HEADER - 1,
                reason: 0,
                ..ENTRY
            },
        ];
        for entry in entries {
            let line = entry.line();
            assert_eq!(line.len() as u64, HEADER);
            assert_eq!(Entry::parse(line.as_bytes()), Some(entry));
            let sign = line.as_bytes()[usize::try_from(SIGN).unwrap()];
            assert_eq!(sign == REMOVED, !entry.kept);
        }
    }

    #[test]
    fn a_header_that_we_would_not_write_is_none() {
        let line = ENTRY.line();
        let wrong = [
            ("+ broken", "* broken"),
            ("broken", "open  "),
            ("broken", "closed"),
            (" 00060", " +0060"),
            (" 00060", " 60   "),
            (" 00060", " 04096"),
            ("packed 1", "packed 2"),
            ("\n", " "),
        ];
        for (there, other) in wrong {
            let changed = line.replacen(there, other, 1);
            assert_ne!(changed, line);
            assert_eq!(Entry::parse(changed.as_bytes()), None, "{changed}");
        }
    }
}
