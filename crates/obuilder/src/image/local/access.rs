//! Which files of this machine may be read as images.
//!
//! Whoever writes a spec names the file. On a machine that builds for others, only what is below directories that the operator chose is
//! opened, links included; nothing is said of what there is elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::image::FetchError;

/// Where images may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalImages {
    /// Anywhere: for those who build for themselves.
    Any,
    /// Below one of these directories, absolute paths; links that lead out of them are not followed. None of them: nowhere.
    Below(Vec<PathBuf>),
}

impl LocalImages {
    /// Opens `path`, a directory if `flags` say so, and otherwise a file to be read.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, FetchError> {
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(FetchError::Request(format!(
                "the image's path \"{}\" must be absolute, without \"..\"",
                path.display()
            )));
        }
        // A pipe must not make us wait.
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = match self {
            Self::Any => rustix::fs::openat(CWD, path, flags, Mode::empty()),
            Self::Below(directories) => {
                let found = directories
                    .iter()
                    .find_map(|directory| Some((directory, path.strip_prefix(directory).ok()?)));
                let Some((directory, rest)) = found else {
                    return Err(FetchError::Request(format!(
                        "local images may not be read from \"{}\" here; ask the operator which directories are allowed",
                        path.display()
                    )));
                };
                let rest = if rest.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    rest
                };
                let above = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(CWD, directory, above, Mode::empty()).and_then(|above| {
                    rustix::fs::openat2(above, rest, flags, Mode::empty(), self.resolve())
                })
            }
        };
        opened.map_err(|error| {
            FetchError::Request(format!(
                "cannot open the image \"{}\": {}",
                path.display(),
                io::Error::from(error)
            ))
        })
    }

    /// Opens the file `path`.
    pub(super) fn file(&self, path: &Path) -> Result<File, FetchError> {
        let file = self.open(path, OFlags::empty())?;
        regular(file).map_err(|error| {
            FetchError::Request(format!(
                "cannot read the image \"{}\": {error}",
                path.display()
            ))
        })
    }

    /// Opens a file in an open directory.
    pub(super) fn file_in(&self, directory: impl AsFd, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        regular(rustix::fs::openat2(
            directory,
            path,
            flags,
            Mode::empty(),
            self.resolve(),
        )?)
    }

    fn resolve(&self) -> ResolveFlags {
        match self {
            Self::Any => ResolveFlags::empty(),
            Self::Below(_) => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        }
    }
}

fn regular(file: OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_below_the_allowed_directories_is_opened() {
        let host = tempfile::tempdir().unwrap();
        let path = |name: &str| host.path().join(name);
        std::fs::create_dir_all(path("allowed/deep")).unwrap();
        std::fs::write(path("secret"), "").unwrap();
        std::fs::write(path("allowed/deep/image"), "").unwrap();
        std::fs::create_dir(path("allowed-not")).unwrap();
        std::fs::write(path("allowed-not/image"), "").unwrap();
        symlink(path("secret"), path("allowed/absolute")).unwrap();
        symlink("../secret", path("allowed/relative")).unwrap();
        symlink("deep/image", path("allowed/inside")).unwrap();
        symlink("/proc/self/root", path("allowed/magic")).unwrap();
        let images = LocalImages::Below(vec![path("other"), path("allowed")]);
        for good in ["allowed/deep/image", "allowed/inside"] {
            images.file(&path(good)).unwrap();
        }
        for bad in [
            "secret",
            "allowed-not/image",
            "allowed/absolute",
            "allowed/relative",
            "allowed/../secret",
            "allowed/magic/etc/passwd",
            "allowed/deep",
            "allowed/missing",
            "nowhere/at/all",
        ] {
            assert!(images.file(&path(bad)).is_err(), "{bad}");
            assert!(LocalImages::Below(Vec::new()).file(&path(bad)).is_err());
        }
        assert!(images.file(Path::new("allowed/deep/image")).is_err());
        LocalImages::Any.file(&path("secret")).unwrap();
        LocalImages::Any.file(&path("allowed/absolute")).unwrap();
        // What is there elsewhere is nobody's business.
        let error = |name: &str| images.file(&path(name)).unwrap_err().to_string();
        assert_eq!(
            error("secret"),
            error("nowhere").replace("nowhere", "secret")
        );
    }
}
