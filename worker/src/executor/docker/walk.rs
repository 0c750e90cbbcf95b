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

/// A walk through one context.
pub(super) struct Walk<'a, E> {
    /// The context.
    pub(super) root: &'a Path,
    /// What is kept out of it.
    pub(super) rules: &'a Rules,
    /// Asked at each entry, also at those that are kept out: an error ends the walk. A context may have any number of entries, and
    /// whoever wants them may be gone before the last.
    pub(super) go_on: &'a dyn Fn() -> Result<(), E>,
}

impl<E: From<String>> Walk<'_, E> {
    /// Visits everything in the context, less what the rules keep out. Something in a directory that is kept out may be visited
    /// without the directory.
    ///
    /// # Errors
    /// What `visit` or `go_on` says, or what cannot be looked at: a sentence for the user.
    pub(super) fn run(&self, visit: &mut Visit<'_, E>) -> Result<(), E> {
        self.directory(OsStr::new(""), &Matched::default(), visit)
    }

    /// Visits what is in `directory`, but not the directory itself. Depth is bounded by the longest path that the system can open.
    fn directory(
        &self,
        directory: &OsStr,
        matched: &Matched,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        let explain = |error: io::Error| cannot_send(Path::new(directory), &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(directory)).map_err(explain)? {
            (self.go_on)()?;
            names.push(entry.map_err(explain)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            (self.go_on)()?;
            let path = join(directory, &name);
            let metadata = fs::symlink_metadata(self.root.join(&path))
                .map_err(|error| cannot_send(Path::new(&path), &error))?;
            let (verdict, matched) = self.rules.decide(&path, metadata.is_dir(), matched);
            if verdict == Verdict::Send {
                visit(Path::new(&path), &metadata)?;
            }
            if metadata.is_dir() && verdict != Verdict::Skip {
                self.directory(&path, &matched, visit)?;
            }
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_walk_ends_early_even_where_everything_is_kept_out() {
        let root = TempDir::new().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        fs::write(root.path().join(super::super::ignore::NAME), "[a-d]\n").unwrap();
        let rules = Rules::of_context(root.path(), "Dockerfile").unwrap();
        let whole = Cell::new(0);
        let walk = |limit: u32| {
            let asked = Cell::new(0);
            let walk = Walk {
                root: root.path(),
                rules: &rules,
                go_on: &|| {
                    asked.set(asked.get() + 1);
                    whole.set(asked.get());
                    if asked.get() > limit {
                        return Err("enough".to_owned());
                    }
                    Ok(())
                },
            };
            walk.run(&mut |_, _| Ok(()))
        };
        assert_eq!(walk(u32::MAX), Ok(()));
        // Each of the five files, once when it is found and once when it is looked at.
        assert_eq!(whole.get(), 10);
        for limit in 0..10 {
            assert_eq!(walk(limit), Err("enough".to_owned()), "{limit}");
            assert_eq!(whole.get(), limit + 1);
        }
    }
}
