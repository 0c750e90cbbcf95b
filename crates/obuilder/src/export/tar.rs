//! Writes a tree as a tar: POSIX, with PAX records where the old header has no room. The same tree gives the same bytes.
//!
//! Times are kept to the nanosecond, owners by number only, hard links as such, extended attributes as `SCHILY.xattr`, which is how Docker,
//! containerd and GNU tar have them.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use bstr::BString;
use rustix::fs::FileType;
use tar::{EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::ExportError;
use super::walk::{Found, Start, walk};

/// The largest owner's number that the old header holds.
const LARGEST_ID: u32 = 0o7_777_777;
/// The largest size and time that it holds.
const LARGEST_NUMBER: u64 = 0o77_777_777_777;
const PIECE: usize = 256 * 1024;

/// Writes what is at `start`, and below it, to `out`, with an end mark. In a `layer`, names that mean something there are refused.
pub(super) fn write(
    start: &Start,
    out: impl Write,
    layer: bool,
    cancel: &CancellationToken,
) -> Result<(), ExportError> {
    let mut writer = Writer {
        out,
        links: HashMap::new(),
        piece: vec![0; PIECE],
        cancel,
    };
    walk(start, cancel, |found| {
        if layer && found.name.starts_with(b".wh.") {
            return Err(ExportError::Refused {
                path: found.path.to_owned(),
                why: "in images, names that start with .wh. mean something else",
            });
        }
        writer.entry(found)
    })?;
    writer.raw(&[0; 1024])?;
    writer.out.flush().map_err(ExportError::Tar)
}

struct Writer<'a, W> {
    out: W,
    /// Files with several names, and the first of them.
    links: HashMap<(u64, u64), BString>,
    piece: Vec<u8>,
    cancel: &'a CancellationToken,
}

impl<W: Write> Writer<'_, W> {
    fn entry(&mut self, found: &Found<'_>) -> Result<(), ExportError> {
        let stat = found.stat;
        let mut path = found.path.to_owned();
        if found.kind == FileType::Directory {
            path.push(b'/');
        }
        let inode = (stat.st_dev, stat.st_ino);
        if found.kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&inode) {
                let first = first.clone();
                let mut records = Records::default();
                let mut header = header(found, EntryType::Link, &mut records);
                records.name(&mut header, &path, Some(&first));
                return self.header(header, records);
            }
            self.links.insert(inode, path.clone());
        }
        let kind = match found.kind {
            FileType::RegularFile => EntryType::Regular,
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            _ => {
                return Err(ExportError::Refused {
                    path,
                    why: "it is of a kind that tars do not know",
                });
            }
        };
        let mut records = Records::default();
        let mut header = header(found, kind, &mut records);
        let target = match kind {
            EntryType::Symlink => Some(BString::from(found.target()?)),
            _ => None,
        };
        records.name(&mut header, &path, target.as_ref());
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let (major, minor) = (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            );
            let set = header
                .set_device_major(major)
                .and_then(|()| header.set_device_minor(minor));
            set.map_err(ExportError::Tar)?;
        }
        for (name, value) in found.xattrs()? {
            let mut key = BString::from("SCHILY.xattr.");
            key.extend_from_slice(&name);
            records.push(&key, &value);
        }
        if kind != EntryType::Regular {
            return self.header(header, records);
        }
        let file = found.open()?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        if size > LARGEST_NUMBER {
            records.push(b"size", size.to_string().as_bytes());
        } else {
            header.set_size(size);
        }
        self.header(header, records)?;
        self.content(found, file, size)
    }

    fn content(
        &mut self,
        found: &Found<'_>,
        mut file: std::fs::File,
        size: u64,
    ) -> Result<(), ExportError> {
        let mut left = size;
        while left > 0 {
            if self.cancel.is_cancelled() {
                return Err(ExportError::Cancelled);
            }
            let room = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let piece = self.piece.get_mut(..room).unwrap_or_default();
            let got = match file.read(piece) {
                Ok(0) => {
                    let short = io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter");
                    return Err(ExportError::read(found.path, short));
                }
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ExportError::read(found.path, error)),
            };
            let piece = self.piece.get(..got).unwrap_or_default();
            self.out.write_all(piece).map_err(ExportError::Tar)?;
            left -= got as u64;
        }
        self.pad(size)
    }

    fn header(&mut self, mut header: Header, records: Records) -> Result<(), ExportError> {
        let records = records.0;
        if !records.is_empty() {
            let mut extra = Header::new_ustar();
            extra.set_entry_type(EntryType::XHeader);
            // Its name is of no importance, but programs that know no PAX make a file of it.
            short_name(&mut extra, b"PaxHeader");
            extra.set_mode(0o644);
            extra.set_uid(0);
            extra.set_gid(0);
            extra.set_mtime(0);
            extra.set_size(records.len() as u64);
            extra.set_cksum();
            self.raw(extra.as_bytes())?;
            self.raw(&records)?;
            self.pad(records.len() as u64)?;
        }
        header.set_cksum();
        self.raw(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<(), ExportError> {
        let over = usize::try_from(size % 512).unwrap_or_default();
        if over == 0 {
            return Ok(());
        }
        self.raw([0; 512].get(over..).unwrap_or_default())
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.out.write_all(bytes).map_err(ExportError::Tar)
    }
}

/// What every entry has.
fn header(found: &Found<'_>, kind: EntryType, records: &mut Records) -> Header {
    let stat = found.stat;
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_size(0);
    for (key, id) in [("uid", stat.st_uid), ("gid", stat.st_gid)] {
        let fits = id <= LARGEST_ID;
        if !fits {
            records.push(key.as_bytes(), id.to_string().as_bytes());
        }
        let id = if fits { id.into() } else { 0 };
        match key {
            "uid" => header.set_uid(id),
            _ => header.set_gid(id),
        }
    }
    let seconds = stat.st_mtime;
    let whole = u64::try_from(seconds)
        .ok()
        .filter(|time| *time <= LARGEST_NUMBER);
    header.set_mtime(whole.unwrap_or_default());
    if stat.st_mtime_nsec != 0 || whole.is_none() {
        records.push(
            b"mtime",
            decimal(seconds, stat.st_mtime_nsec.into()).as_bytes(),
        );
    }
    header
}

/// Seconds with a fraction. Before 1970, both count downwards.
fn decimal(seconds: i64, nanoseconds: i128) -> String {
    let whole = i128::from(seconds) * 1_000_000_000 + nanoseconds;
    let sign = if whole < 0 { "-" } else { "" };
    let (whole, fraction) = (
        whole.unsigned_abs() / 1_000_000_000,
        whole.unsigned_abs() % 1_000_000_000,
    );
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// PAX records of one entry.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn name(&mut self, header: &mut Header, path: &BString, link: Option<&BString>) {
        if path.len() > 100 {
            self.push(b"path", path);
        }
        short_name(header, path);
        if let Some(link) = link {
            if link.len() > 100 {
                self.push(b"linkpath", link);
            }
            copy(&mut header.as_old_mut().linkname, link);
        }
    }
}

fn short_name(header: &mut Header, name: &[u8]) {
    copy(&mut header.as_old_mut().name, name);
}

fn copy(field: &mut [u8; 100], value: &[u8]) {
    for (to, from) in field.iter_mut().zip(value) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_downwards() {
        assert_eq!(decimal(1, 500_000_000), "1.5");
        assert_eq!(decimal(-2, 750_000_000), "-1.25");
        assert_eq!(decimal(-1, 0), "-1");
        assert_eq!(decimal(0, 1), "0.000000001");
        assert_eq!(decimal(-1, 500_000_000), "-0.5");
    }

    #[test]
    fn records_count_their_own_length() {
        let mut records = Records::default();
        records.push(b"a", b"b");
        records.push(b"path", &[b'x'; 90]);
        let start = records.0.split(|byte| *byte == b' ');
        assert!(records.0.starts_with(b"6 a=b\n"), "{:?}", start.count());
        assert!(records.0[6..].starts_with(b"99 path="));
        assert_eq!(records.0.len(), 6 + 99);
    }
}
