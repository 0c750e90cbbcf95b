//! Reads a tar entry by entry: POSIX (ustar and PAX), GNU and the one before both.
//!
//! Where readers disagree about a tar, this one does as Go's does, which Docker and containerd use: an image then means the same here
//! and there. What an entry may occupy in memory is bounded; what cannot be understood is refused rather than guessed.

use std::io::{self, BufRead};

use bstr::{BString, ByteSlice};
use tar::{EntryType, Header};

use super::UnpackError;
use super::numbers::{self, Time};

/// A long name or the PAX records of one entry: at most so many bytes.
const EXTENSION: u64 = 1 << 20;
const BLOCK: u64 = 512;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What one entry says.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: BString,
    pub(crate) kind: Kind,
    /// Permissions, set-id bits and the sticky bit.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    /// Extended attributes.
    pub(crate) xattrs: Vec<(BString, BString)>,
}

/// What an entry makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its content is to be read before the next entry is asked for, or is skipped.
    File,
    Directory,
    Symlink(BString),
    /// To the entry of this name.
    HardLink(BString),
    Fifo,
    /// Major and minor number.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// A tar being read.
pub(crate) struct Archive<R> {
    reader: R,
    /// Content of the current entry that was not read yet.
    left: u64,
    /// What follows it up to the next block.
    padding: u64,
    /// How much of the tar was read.
    position: u64,
}

#[derive(Default)]
struct Extensions {
    long_path: Option<BString>,
    long_link: Option<BString>,
    pax: Option<Pax>,
}

#[derive(Default)]
struct Pax {
    path: Option<BString>,
    link: Option<BString>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Time>,
    xattrs: Vec<(BString, BString)>,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            left: 0,
            padding: 0,
            position: 0,
        }
    }

    /// Where in the tar the content of the current entry goes on, and how much of it is left.
    pub(crate) fn rest(&self) -> std::ops::Range<u64> {
        self.position..self.position.saturating_add(self.left)
    }

    /// The next entry; `None` at the end mark, or where the tar ends without one.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(UnpackError::Damaged(
                        "it ends with a header that describes nothing".to_owned(),
                    ))
                };
            };
            let size = u64::try_from(numbers::number(&header.as_old().size)?)
                .map_err(|_| UnpackError::Damaged("an entry has a negative size".to_owned()))?;
            self.content(size)?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    let path = self.extension()?;
                    once(&mut extensions.long_path, without_nul(path))?;
                }
                EntryType::GNULongLink => {
                    let link = self.extension()?;
                    once(&mut extensions.long_link, without_nul(link))?;
                }
                EntryType::XHeader => {
                    let records = self.extension()?;
                    once(&mut extensions.pax, Pax::parse(&records)?)?;
                }
                // As Docker does: what a global header says is a remark.
                EntryType::XGlobalHeader => {}
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// More of the current entry's content; empty at its end. [`Archive::consume`] says how much of it was used.
    pub(crate) fn fill(&mut self) -> Result<&[u8], UnpackError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let piece = self.reader.fill_buf().map_err(UnpackError::Read)?;
        if piece.is_empty() {
            return Err(truncated());
        }
        let here = usize::try_from(self.left).map_or(piece.len(), |left| left.min(piece.len()));
        Ok(piece.get(..here).unwrap_or_default())
    }

    pub(crate) fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
        self.left = self.left.saturating_sub(amount as u64);
        self.position += amount as u64;
    }

    fn content(&mut self, size: u64) -> Result<(), UnpackError> {
        self.left = size;
        self.padding = size
            .checked_next_multiple_of(BLOCK)
            .ok_or_else(|| UnpackError::Damaged("an entry is larger than can be".to_owned()))?
            - size;
        Ok(())
    }

    /// What is missing of the last block's padding is missed by nobody; some programs do not write it.
    fn skip_rest(&mut self) -> Result<(), UnpackError> {
        while self.left > 0 {
            let here = self.fill()?.len();
            self.consume(here);
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            let here = self.reader.fill_buf().map_err(UnpackError::Read)?.len();
            if here == 0 {
                self.left = 0;
            }
            self.consume(usize::try_from(self.left).map_or(here, |left| left.min(here)));
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let mut header = Header::new_old();
        let mut got = 0;
        let block = header.as_mut_bytes();
        while let Some(room) = block.get_mut(got..).filter(|room| !room.is_empty()) {
            match self.reader.read(room) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
        self.position += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The sum is taken with its own field full of spaces. Some programs of old added signed bytes.
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        let written = numbers::number(&header.as_old().cksum)?;
        if written != unsigned && written != signed {
            return Err(UnpackError::Damaged(
                "it is no tar, or a header's checksum is wrong".to_owned(),
            ));
        }
        Ok(Some(header))
    }

    fn extension(&mut self) -> Result<Vec<u8>, UnpackError> {
        if self.left > EXTENSION {
            return Err(UnpackError::Refused(format!(
                "names and attributes of one entry take {} bytes, more than {EXTENSION}",
                self.left
            )));
        }
        let mut data = Vec::new();
        loop {
            let piece = self.fill()?;
            if piece.is_empty() {
                return Ok(data);
            }
            data.extend_from_slice(piece);
            let used = piece.len();
            self.consume(used);
        }
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, UnpackError> {
        let pax = extensions.pax.unwrap_or_default();
        let old = header.as_old();
        let path = extensions
            .long_path
            .or(pax.path)
            .unwrap_or_else(|| BString::from(header.path_bytes().into_owned()));
        let link = extensions.long_link.or(pax.link).unwrap_or_else(|| {
            BString::from(header.link_name_bytes().unwrap_or_default().into_owned())
        });
        if path.contains(&0) || link.contains(&0) {
            return Err(UnpackError::Refused(format!(
                "the name of \"{path}\" contains a NUL"
            )));
        }
        let number = |field: &[u8]| {
            let number = numbers::number(field)?;
            u32::try_from(number)
                .map_err(|_| UnpackError::Damaged(format!("\"{path}\" has a number out of range")))
        };
        let device = || -> Result<(u32, u32), UnpackError> {
            let fields = match (header.as_ustar(), header.as_gnu()) {
                (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
                (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
                (None, None) => return Ok((0, 0)),
            };
            Ok((number(fields.0)?, number(fields.1)?))
        };
        let kind = match header.entry_type() {
            // Before POSIX, a directory was a file whose name ends so.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link),
            EntryType::Link => Kind::HardLink(link),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            EntryType::GNUSparse => return Err(sparse(&path)),
            other => {
                return Err(UnpackError::Refused(format!(
                    "\"{path}\" is of the unknown type {:?}",
                    char::from(other.as_byte())
                )));
            }
        };
        let size = match kind {
            Kind::File => pax.size.unwrap_or(self.left),
            // Whatever its header says: only files have content.
            _ => 0,
        };
        self.content(size)?;
        let owner = |pax: Option<u64>, field: &[u8]| match pax {
            None => number(field),
            Some(number) => u32::try_from(number)
                .map_err(|_| UnpackError::Damaged(format!("\"{path}\" has an owner out of range"))),
        };
        let (uid, gid) = (owner(pax.uid, &old.uid)?, owner(pax.gid, &old.gid)?);
        if uid == u32::MAX || gid == u32::MAX {
            return Err(UnpackError::Damaged(format!(
                "\"{path}\" has an owner out of range"
            )));
        }
        let modified = match pax.modified {
            Some(modified) => modified,
            None => Time {
                seconds: numbers::number(&old.mtime)?,
                nanoseconds: 0,
            },
        };
        Ok(Entry {
            mode: number(&old.mode)? & 0o7777,
            uid,
            gid,
            modified,
            xattrs: pax.xattrs,
            kind,
            path,
        })
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_path.is_none() && self.long_link.is_none() && self.pax.is_none()
    }
}

impl Pax {
    /// The last record of a key counts; an empty value takes earlier ones back.
    fn parse(data: &[u8]) -> Result<Self, UnpackError> {
        let mut pax = Self::default();
        let decimal = |value: &[u8]| match std::str::from_utf8(value).map(str::parse::<u64>) {
            _ if value.is_empty() => Ok(None),
            Ok(Ok(number)) => Ok(Some(number)),
            _ => Err(UnpackError::Damaged(
                "a number in a PAX record is none".to_owned(),
            )),
        };
        let text = |value: &[u8]| (!value.is_empty()).then(|| BString::from(value));
        for (key, value) in numbers::records(data)? {
            match key {
                b"path" => pax.path = text(value),
                b"linkpath" => pax.link = text(value),
                b"size" => {
                    let size = decimal(value)?;
                    // Readers disagree on which one counts, so that one tar could be two.
                    if pax.size.is_some() && pax.size != size {
                        return Err(UnpackError::Refused(
                            "an entry has two different sizes".to_owned(),
                        ));
                    }
                    pax.size = size;
                }
                b"uid" => pax.uid = decimal(value)?,
                b"gid" => pax.gid = decimal(value)?,
                b"mtime" if value.is_empty() => pax.modified = None,
                b"mtime" => pax.modified = Some(numbers::time(value)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(sparse(&pax.path.unwrap_or_default()));
                }
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR) {
                        pax.xattrs.retain(|(known, _)| known != name);
                        pax.xattrs.push((name.into(), value.into()));
                    }
                }
            }
        }
        Ok(pax)
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), UnpackError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UnpackError::Damaged(
            "an entry is described twice".to_owned(),
        )),
    }
}

fn without_nul(mut name: Vec<u8>) -> BString {
    if let Some(end) = name.find_byte(0) {
        name.truncate(end);
    }
    BString::from(name)
}

fn truncated() -> UnpackError {
    UnpackError::Damaged("it ends in the middle of an entry".to_owned())
}

fn sparse(path: &BString) -> UnpackError {
    UnpackError::Refused(format!(
        "\"{path}\" is stored as a sparse file, which is not supported; make the tar without --sparse"
    ))
}
