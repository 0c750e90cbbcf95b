//! Walks through a build context in the order in which engines want it: each directory before what is in it, names sorted byte by byte.
//!
//! The context is a stranger's: links are looked at, never followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::ignore::{Matched, Rules, Verdict};

/// What is done with each entry: its path relative to the context, and what it is.
pub(super) type Visit<'a, E> = dyn FnMut(&Path, &Metadata) -> Result<(), E> + 'a;

/// Visits everything in the context `root`, less what `rules` keep out. Something in a directory that is kept out may be visited
/// without the directory.
///
/// # Errors
/// What `visit` says, or what cannot be looked at: a sentence for the user.
pub(super) fn walk<E: From<String>>(
    root: &Path,
    rules: &Rules,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    directory(root, rules, OsStr::new(""), &Matched::default(), visit)
}

/// Visits what is in `directory`, but not the directory itself. Depth is bounded by the longest path that the system can open.
fn directory<E: From<String>>(
    root: &Path,
    rules: &Rules,
    directory: &OsStr,
    matched: &Matched,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let explain = |error: io::Error| cannot_send(Path::new(directory), &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(directory)).map_err(explain)? {
        names.push(entry.map_err(explain)?.file_name());
    }
    names.sort_unstable();
    for name in names {
        let path = join(directory, &name);
        let metadata = fs::symlink_metadata(root.join(&path))
            .map_err(|error| cannot_send(Path::new(&path), &error))?;
        let (verdict, matched) = rules.decide(&path, metadata.is_dir(), matched);
        if verdict == Verdict::Send {
            visit(Path::new(&path), &metadata)?;
        }
        if metadata.is_dir() && verdict != Verdict::Skip {
            self::directory(root, rules, &path, &matched, visit)?;
        }
    }
    Ok(())
}

fn join(directory: &OsStr, name: &OsStr) -> OsString {
    if directory.is_empty() {
        return name.to_owned();
    }
    OsString::from_vec([directory.as_bytes(), b"/", name.as_bytes()].concat())
}

/// Why something of the context does not reach the engine.
pub(super) fn cannot_send(path: &Path, reason: &dyn std::fmt::Display) -> String {
    format!("cannot send {path:?} of the build context to the Docker engine: {reason}")
}

/// Opens the file at `path`, unless it has become a link meanwhile, to be read for exactly `size` bytes.
pub(super) fn open(path: &Path, size: u64) -> io::Result<Exactly> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    Ok(Exactly { file, left: size })
}

/// A file of a size that was promised already.
pub(super) struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let count = (&self.file).take(self.left).read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it shrank while it was being sent",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
