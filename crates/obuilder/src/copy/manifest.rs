//! Finds and hashes the files of one source. Nothing but directories is ever entered: a link is taken for what it is.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice as _};
use ocluster_obuilder_spec::{Manifest, quoted};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::CopyError;
use super::budget::Budget;
use super::digest::{Reader, changed};
use super::tree::{failed, join, open_dir, shortened, split};

/// The longest path that Linux takes, in bytes. It bounds how deep a tree can be, too.
const LONGEST_PATH: usize = 4095;

/// Looks at the sources of one `copy`.
pub(super) struct Finder<'a> {
    /// What sources are relative to.
    pub(super) root: BorrowedFd<'a>,
    /// Names of directory entries to leave out.
    pub(super) exclude: &'a [BString],
    /// Hashes files.
    pub(super) reader: Reader<'a>,
    /// What may still be found.
    pub(super) budget: Budget,
}

/// A directory some of whose directories are still to be looked at.
struct Open {
    path: Vec<u8>,
    done: Vec<Manifest>,
    /// Paths, the last one next.
    left: Vec<Vec<u8>>,
}

impl Finder<'_> {
    /// What there is to copy at `src`.
    pub(super) fn find(&mut self, src: &BStr) -> Result<Manifest, CopyError> {
        match self.check(src)? {
            Source::Leaf(path, kind) => {
                self.budget.item(path.len())?;
                let (dir, name) = split(&path);
                let dir = open_dir(self.root, dir).map_err(|errno| failed("open", dir, errno))?;
                self.leaf(dir.as_fd(), name, path.clone(), kind)
            }
            Source::Directory(path) => {
                self.budget.item(path.len())?;
                self.directory(path)
            }
        }
    }

    /// Follows OBuilder's rules for what may be named in `src`, with its messages.
    fn check(&self, src: &BStr) -> Result<Source, CopyError> {
        let refused = |why: &str, path: &[u8]| {
            CopyError::Request(format!(
                "{why}{} (in {})",
                path.as_bstr(),
                quoted(src.as_bytes())
            ))
        };
        let not_found =
            || CopyError::Request(format!("Source path {} not found", quoted(src.as_bytes())));
        let mut path = Vec::new();
        let mut dir: Option<OwnedFd> = None;
        let mut names = src.split_str("/").peekable();
        while let Some(name) = names.next() {
            match name {
                b"" | b"." => continue,
                b".." => return Err(refused("Can't use .. in source paths!", b"")),
                _ => {}
            }
            let at = dir.as_ref().map_or(self.root, |dir| dir.as_fd());
            let kind = match fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                // The last is a name with a zero byte in it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL) => {
                    return Err(not_found());
                }
                Err(errno) => return Err(failed("look at", &join(&path, name), errno)),
            };
            path = join(&path, name);
            match kind {
                FileType::Directory => {
                    let opened = fs::openat(
                        at,
                        name,
                        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                        Mode::empty(),
                    );
                    dir = Some(opened.map_err(|errno| failed("open", &path, errno))?);
                }
                FileType::RegularFile | FileType::Symlink if names.peek().is_none() => {
                    return Ok(Source::Leaf(path, kind));
                }
                FileType::RegularFile => return Err(refused("Not a directory: ", &path)),
                _ => return Err(refused("Not a regular file: ", &path)),
            }
        }
        Ok(Source::Directory(path))
    }

    /// The directory `path` and all below it. A list of what is left takes the place of recursion: no tree is too deep for the stack.
    fn directory(&mut self, path: Vec<u8>) -> Result<Manifest, CopyError> {
        let mut above = Vec::new();
        let mut current = self.list(path)?;
        loop {
            if let Some(path) = current.left.pop() {
                above.push(current);
                current = self.list(path)?;
                continue;
            }
            let mut entries = current.done;
            entries.sort_unstable_by(|a, b| path_of(a).cmp(path_of(b)));
            let finished = Manifest::Dir {
                path: current.path.into(),
                entries,
            };
            match above.pop() {
                Some(parent) => current = parent,
                None => return Ok(finished),
            }
            current.done.push(finished);
        }
    }

    /// Looks at the entries of the directory `path`, except for what is in its directories.
    fn list(&mut self, path: Vec<u8>) -> Result<Open, CopyError> {
        self.reader.check()?;
        let dir = open_dir(self.root, &path).map_err(|errno| gone_or(errno, "open", &path))?;
        let mut names = self.names(&dir, &path)?;
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut open = Open {
            path,
            done: Vec::with_capacity(names.len()),
            left: Vec::new(),
        };
        for (name, kind) in names {
            let path = join(&open.path, &name);
            if path.len() > LONGEST_PATH {
                return Err(CopyError::Request(format!(
                    "Path of more than {LONGEST_PATH} bytes in source directory: {}",
                    shortened(&path)
                )));
            }
            let kind = match kind {
                FileType::Unknown => {
                    let stat = fs::statat(&dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|errno| gone_or(errno, "look at", &path))?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            if kind == FileType::Directory {
                open.left.push(path);
            } else {
                let leaf = self.leaf(dir.as_fd(), &name, path, kind)?;
                open.done.push(leaf);
            }
        }
        open.left.reverse();
        Ok(open)
    }

    /// The names in `dir`, without those to leave out, and what they are as far as the disk tells.
    fn names(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, FileType)>, CopyError> {
        let reading = |errno| failed("read", path, errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(dir).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name().to_bytes();
            let excluded = self.exclude.iter().any(|excluded| excluded == name);
            if name != b"." && name != b".." && !excluded {
                // Before anything is looked at, since one directory alone may have too many.
                self.budget.item(path.len() + 1 + name.len())?;
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(names)
    }

    /// The file or link `name` in `dir`, which is `path` below the root.
    fn leaf(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        kind: FileType,
    ) -> Result<Manifest, CopyError> {
        match kind {
            FileType::RegularFile => {
                let file = open_file(dir, name).map_err(|errno| gone_or(errno, "open", &path))?;
                let read = self.reader.read(&file, &path, None)?;
                Ok(Manifest::File {
                    path: path.into(),
                    sha256: read.sha256,
                    executable: read.stat.st_mode & 0o111 != 0,
                })
            }
            FileType::Symlink => {
                let target = fs::readlinkat(dir, name, Vec::new())
                    .map_err(|errno| gone_or(errno, "read", &path))?;
                self.budget.text(target.as_bytes().len())?;
                Ok(Manifest::Symlink {
                    path: path.into(),
                    target: target.into_bytes().into(),
                })
            }
            _ => Err(CopyError::Request(format!(
                "Unsupported file type for {}",
                quoted(&path)
            ))),
        }
    }
}

/// What a checked source is.
enum Source {
    Leaf(Vec<u8>, FileType),
    Directory(Vec<u8>),
}

/// Opens the regular file `name` in `dir` for reading. Whatever took its place meanwhile is neither followed nor waited for.
pub(super) fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat(
        dir,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Where in its source `item` is.
pub(super) fn path_of(item: &Manifest) -> &[u8] {
    match item {
        Manifest::File { path, .. }
        | Manifest::Symlink { path, .. }
        | Manifest::Dir { path, .. } => path,
    }
}

/// The error for something that was there a moment ago.
fn gone_or(errno: Errno, action: &'static str, path: &[u8]) -> CopyError {
    match errno {
        Errno::NOENT => CopyError::Request(format!(
            "File {} not found in source directory",
            quoted(path)
        )),
        Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO => changed(path),
        _ => failed(action, path, errno),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::open_root;
    use super::*;

    #[test]
    fn all_that_is_found_counts_before_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/file"), "").unwrap();
        std::os::unix::fs::symlink("target", dir.path().join("d/link")).unwrap();
        let root = open_root(dir.path()).unwrap();
        let cancel = CancellationToken::new();
        let found = |src: &str, items, bytes| {
            let mut finder = Finder {
                root: root.as_fd(),
                exclude: &["other".into()],
                reader: Reader::new(&cancel),
                budget: Budget::of(items, bytes),
            };
            finder.find(src.into()).is_ok()
        };
        // A directory with its path, and what is in it; what the link holds counts like a path.
        let bytes = "d".len() + "d/file".len() + "d/link".len() + "target".len();
        assert!(found("d", 3, bytes));
        assert!(!found("d", 2, bytes));
        assert!(!found("d", 3, bytes - 1));
        assert!(found("d/file", 1, "d/file".len()));
        assert!(!found("d/file", 0, 100));
    }
}
