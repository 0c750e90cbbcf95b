//! Finds where in a layer's tree a `copy` goes, as a program in the image would: links are followed, and lead nowhere but into the
//! image's own tree. Directories that are missing are created; those which exist are left exactly as they are.

use std::os::fd::BorrowedFd;

use bstr::{BStr, ByteSlice as _};
use ocluster_obuilder_spec::quoted;
use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::CopyError;
use super::tree::{failed, join, open_dir, split};

/// How many links are followed at most, as in the kernel.
const MOST_LINKS: usize = 40;

/// The mode of directories that are created.
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// A directory in the target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Below the target's root, without links in it; empty for the root.
    pub(super) path: Vec<u8>,
    /// Whether it was missing.
    pub(super) created: bool,
}

/// The directory `dst` of the target `root`. What is missing of it is created for `owner`.
pub(super) fn directory(
    root: BorrowedFd<'_>,
    dst: &BStr,
    owner: (u32, u32),
) -> Result<Place, CopyError> {
    let mut walk = Walk::new(root, dst);
    let found = walk.follow(Vec::new(), dst, Some(owner))?;
    found.ok_or_else(|| walk.not_a_directory(dst.trim_start_with(|c| c == '/')))
}

/// The directory to which the link `path` (whose directories are none) leads inside `root`, if it leads to one.
pub(super) fn behind_link(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Vec<u8>>, CopyError> {
    let (dir, name) = split(path);
    let found = Walk::new(root, path.as_bstr()).follow(dir.to_vec(), name.as_bstr(), None)?;
    Ok(found.map(|place| place.path))
}

/// A destination's directory and its last name. There is none if it names a directory in another way: `/`, `/a/..`.
pub(super) fn last_name(dst: &BStr) -> (&BStr, Option<&BStr>) {
    let mut rest = dst.as_bytes();
    loop {
        let (dir, name) = split(rest);
        match name {
            b"" | b"." if !rest.is_empty() => rest = dir,
            b"" | b".." => return (rest.as_bstr(), None),
            _ => return (dir.as_bstr(), Some(name.as_bstr())),
        }
    }
}

/// One walk through the target.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// What messages call it.
    dst: &'a BStr,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, dst: &'a BStr) -> Self {
        Self {
            root,
            dst,
            links: 0,
        }
    }

    /// Goes from the directory `at` along `path`. What is missing is created for `create`; without it, the answer is then nothing, as it is
    /// for a way that does not lead to a directory.
    fn follow(
        &mut self,
        at: Vec<u8>,
        path: &BStr,
        create: Option<(u32, u32)>,
    ) -> Result<Option<Place>, CopyError> {
        let mut place = Place {
            path: at,
            created: false,
        };
        let mut left = Vec::new();
        push_names(&mut left, path.as_bytes());
        while let Some(name) = left.pop() {
            if name == b".." {
                place = Place {
                    path: split(&place.path).0.to_vec(),
                    created: false,
                };
                continue;
            }
            let dir = open_dir(self.root, &place.path)
                .map_err(|errno| failed("open", &place.path, errno))?;
            let next = join(&place.path, &name);
            let created = match fs::statat(&dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    let Some(owner) = create else { return Ok(None) };
                    create_directory(&dir, &name, owner)
                        .map_err(|errno| failed("create", &next, errno))?;
                    true
                }
                Err(errno) => return Err(failed("look at", &next, errno)),
                Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => false,
                    FileType::Symlink => {
                        self.links += 1;
                        if self.links > MOST_LINKS {
                            if create.is_none() {
                                return Ok(None);
                            }
                            return Err(CopyError::Request(format!(
                                "cannot copy to {}: too many symbolic links on the way in the image",
                                quoted(self.dst)
                            )));
                        }
                        let target = fs::readlinkat(&dir, name.as_slice(), Vec::new())
                            .map_err(|errno| failed("read", &next, errno))?;
                        let target = target.as_bytes();
                        if target.starts_with(b"/") {
                            place.path.clear();
                        }
                        place.created = false;
                        push_names(&mut left, target);
                        continue;
                    }
                    _ if create.is_none() => return Ok(None),
                    _ => return Err(self.not_a_directory(&next)),
                },
            };
            place = Place {
                path: next,
                created,
            };
        }
        Ok(Some(place))
    }

    fn not_a_directory(&self, path: &[u8]) -> CopyError {
        CopyError::Request(format!(
            "cannot copy to {}: {} is not a directory in the image",
            quoted(self.dst),
            quoted(&[b"/", path].concat())
        ))
    }
}

/// Adds the names in `path` to a list whose last one comes next.
fn push_names(left: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.rsplit_str("/");
    left.extend(
        names
            .filter(|name| !matches!(*name, b"" | b"."))
            .map(<[u8]>::to_vec),
    );
}

/// Creates an empty directory, owned by `owner`, which everybody may read.
pub(super) fn create_directory(
    dir: impl std::os::fd::AsFd,
    name: &[u8],
    owner: (u32, u32),
) -> Result<(), Errno> {
    fs::mkdirat(&dir, name, DIRECTORY_MODE)?;
    // After the owner, since changing that changes modes, too; and explicitly, since the mask and the parent's set-gid bit join in.
    fs::chownat(
        &dir,
        name,
        Some(Uid::from_raw(owner.0)),
        Some(Gid::from_raw(owner.1)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    fs::chmodat(&dir, name, DIRECTORY_MODE, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checklist's cases for paths, on where a destination leads in a tree without links.
    #[test]
    fn destinations_are_normalised_where_they_are_used() {
        for (written, expected) in [
            ("a/b", "a/b"),
            ("/a/b", "a/b"),
            ("///a//b", "a/b"),
            ("a/b/", "a/b"),
            ("/a/./b", "a/b"),
            ("./a/b", "a/b"),
            ("/a/b/.", "a/b"),
            (".", ""),
            ("/", ""),
            ("/a/../../b", "b"),
            // A drive's letter is nothing special here.
            ("/C:/a", "C:/a"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let root = super::super::open_root(dir.path()).unwrap();
            let owner = (
                rustix::process::getuid().as_raw(),
                rustix::process::getgid().as_raw(),
            );
            let place = directory(std::os::fd::AsFd::as_fd(&root), written.into(), owner).unwrap();
            assert_eq!(place.path.as_bstr(), expected, "{written}");
            assert!(dir.path().join(expected).is_dir(), "{written}");
        }
    }

    #[test]
    fn the_last_name_is_what_is_created() {
        for (dst, dir, name) in [
            ("/a/b", "/a", Some("b")),
            ("/a", "", Some("a")),
            ("/a/b/./.", "/a", Some("b")),
            ("/a/..", "/a/..", None),
            ("/.", "", None),
            ("/src/a b", "/src", Some("a b")),
        ] {
            let expected = (BStr::new(dir), name.map(BStr::new));
            assert_eq!(last_name(dst.into()), expected, "{dst}");
        }
    }
}
