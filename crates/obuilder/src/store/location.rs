//! Which store, where: `--store` and `--obuilder-store`.
//!
//! Reading a location looks at the filesystem only for a bare path, and never changes anything.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::statfs;

/// The number by which a btrfs filesystem says what it is (`BTRFS_SUPER_MAGIC`).
pub(super) const BTRFS_MAGIC: u64 = 0x9123_683E;

/// How a store keeps its trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Layers above each other, mounted by the kernel.
    Overlayfs,
    /// Subvolumes and snapshots.
    Btrfs,
    /// Whole copies made by rsync.
    Rsync(RsyncMode),
    /// Whole copies whose files share their blocks (reflinks).
    Xfs,
}

/// What rsync does with files that did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsyncMode {
    /// Copies them.
    Copy,
    /// Links them, after comparing their content.
    Hardlink,
    /// Links them, after comparing size and time only.
    HardlinkUnsafe,
}

/// A kind of store and its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// How.
    pub kind: Kind,
    /// Where; absolute.
    pub root: PathBuf,
}

/// Words that are no location of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// None of the forms.
    #[error(
        "store must start with overlayfs:/, btrfs:/, xfs:/ or rsync:/, or be an absolute path: {given:?}"
    )]
    Unknown {
        /// What was given.
        given: String,
    },
    /// A kind that OBuilder knows and we do not have.
    #[error(
        "{kind}: stores are not supported by this build: use overlayfs:/PATH, btrfs:/PATH, xfs:/PATH or rsync:/PATH"
    )]
    NotSupported {
        /// Which.
        kind: &'static str,
    },
    /// A kind that we have, and a path that depends on where we are.
    #[error("the path of a store must be absolute, as in {kind}:/var/lib/obuilder: {given:?}")]
    Relative {
        /// Which kind.
        kind: &'static str,
        /// What was given.
        given: String,
    },
    /// A path that no file has.
    #[error("the path of a store has a zero byte in it: {given:?}")]
    ZeroByte {
        /// What was given.
        given: String,
    },
    /// No word that says what rsync is to do.
    #[error("rsync mode must be copy, hardlink or hardlink_unsafe: {given:?}")]
    UnknownMode {
        /// What was given.
        given: String,
    },
    /// An rsync store without a mode.
    #[error(
        "an rsync store needs --rsync-mode: copy, or hardlink to let layers share files that did not change, or hardlink_unsafe to \
         tell those by size and time only"
    )]
    ModeMissing,
    /// A mode for a store without rsync.
    #[error("--rsync-mode is for rsync stores only, and this one is {kind}")]
    ModeUnused {
        /// Which kind it is.
        kind: &'static str,
    },
}

impl Kind {
    /// Its word in a location.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::Btrfs => "btrfs",
            Self::Rsync(_) => "rsync",
            Self::Xfs => "xfs",
        }
    }
}

impl Location {
    /// What `--rsync-mode` says, put together with what `--store` says: an rsync store needs one, and others must have none.
    ///
    /// # Errors
    /// One is missing, or one too many.
    pub fn with_rsync_mode(self, mode: Option<RsyncMode>) -> Result<Self, LocationError> {
        match (self.kind, mode) {
            (Kind::Rsync(_), Some(mode)) => Ok(Self {
                kind: Kind::Rsync(mode),
                ..self
            }),
            (Kind::Rsync(_), None) => Err(LocationError::ModeMissing),
            (kind, Some(_)) => Err(LocationError::ModeUnused { kind: kind.word() }),
            (_, None) => Ok(self),
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    /// Reads `overlayfs:/PATH`, `btrfs:/PATH`, `xfs:/PATH`, `rsync:/PATH` (as a copying one, until [`Location::with_rsync_mode`]), or
    /// an absolute path alone, which is btrfs where its directory is (or will be) on a btrfs filesystem, and overlayfs elsewhere.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.contains('\0') {
            return Err(LocationError::ZeroByte { given: text.into() });
        }
        if text.starts_with('/') {
            let root = PathBuf::from(text);
            let kind = if is_on_btrfs(&root) {
                Kind::Btrfs
            } else {
                Kind::Overlayfs
            };
            return Ok(Self { kind, root });
        }
        let Some((word, path)) = text.split_once(':') else {
            return Err(LocationError::Unknown { given: text.into() });
        };
        let kind = match word {
            "overlayfs" => Kind::Overlayfs,
            "btrfs" => Kind::Btrfs,
            "xfs" => Kind::Xfs,
            "rsync" => Kind::Rsync(RsyncMode::Copy),
            "zfs" => return Err(LocationError::NotSupported { kind: "zfs" }),
            "docker" => return Err(LocationError::NotSupported { kind: "docker" }),
            "qemu" => return Err(LocationError::NotSupported { kind: "qemu" }),
            "hcs" => return Err(LocationError::NotSupported { kind: "hcs" }),
            _ => return Err(LocationError::Unknown { given: text.into() }),
        };
        if !path.starts_with('/') {
            return Err(LocationError::Relative {
                kind: kind.word(),
                given: text.into(),
            });
        }
        Ok(Self {
            kind,
            root: path.into(),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.word(), self.root.display())
    }
}

impl FromStr for RsyncMode {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        match text {
            "copy" => Ok(Self::Copy),
            "hardlink" => Ok(Self::Hardlink),
            "hardlink_unsafe" => Ok(Self::HardlinkUnsafe),
            _ => Err(LocationError::UnknownMode { given: text.into() }),
        }
    }
}

impl fmt::Display for RsyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "copy",
            Self::Hardlink => "hardlink",
            Self::HardlinkUnsafe => "hardlink_unsafe",
        })
    }
}

/// Whether `path`, or what is there of it, is on btrfs.
fn is_on_btrfs(path: &Path) -> bool {
    path.ancestors()
        .find_map(|at| statfs(at).ok())
        .is_some_and(|found| found.f_type as u64 == BTRFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Location>().unwrap_err().to_string()
    }

    #[test]
    fn each_kind_is_read_and_written_as_its_word_and_path() {
        for (text, kind) in [
            ("overlayfs:/var/lib/ob", Kind::Overlayfs),
            ("btrfs:/btr", Kind::Btrfs),
            ("xfs:/x y", Kind::Xfs),
            ("rsync:/r:s", Kind::Rsync(RsyncMode::Copy)),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.kind, kind);
            assert_eq!(location.to_string(), text);
        }
    }

    #[test]
    fn a_bare_path_that_is_not_on_btrfs_is_an_overlayfs_store() {
        let location: Location = "/proc/not/there".parse().unwrap();
        assert_eq!(location.kind, Kind::Overlayfs);
        assert_eq!(location.root, Path::new("/proc/not/there"));
    }

    #[test]
    fn kinds_of_obuilder_that_we_do_not_have_are_named() {
        for kind in ["zfs", "docker", "qemu", "hcs"] {
            for text in [
                format!("{kind}:pool"),
                format!("{kind}:"),
                format!("{kind}:/p"),
            ] {
                let said = refusal(&text);
                assert!(
                    said.starts_with(&format!("{kind}: stores are not supported")),
                    "{said}"
                );
                assert!(said.contains("overlayfs:/PATH"), "{said}");
            }
        }
    }

    #[test]
    fn nonsense_is_told_the_forms_there_are() {
        for text in ["", "here", "./here", "btrfs", "ext4:/x", ":/x", "Btrfs:/x"] {
            let said = refusal(text);
            assert!(said.starts_with("store must start with"), "{text}: {said}");
        }
    }

    #[test]
    fn relative_paths_are_refused() {
        for text in ["btrfs:", "overlayfs:x", "rsync:./x", "xfs:~/x"] {
            let said = refusal(text);
            assert!(said.contains("must be absolute"), "{text}: {said}");
        }
        assert!(refusal("btrfs:/a\0b").contains("zero byte"));
    }

    #[test]
    fn rsync_needs_a_mode_and_nothing_else_has_one() {
        let rsync: Location = "rsync:/r".parse().unwrap();
        let btrfs: Location = "btrfs:/b".parse().unwrap();
        for mode in [
            RsyncMode::Copy,
            RsyncMode::Hardlink,
            RsyncMode::HardlinkUnsafe,
        ] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(
                rsync.clone().with_rsync_mode(Some(mode)).unwrap().kind,
                Kind::Rsync(mode)
            );
            assert_eq!(
                btrfs.clone().with_rsync_mode(Some(mode)),
                Err(LocationError::ModeUnused { kind: "btrfs" })
            );
        }
        assert_eq!(rsync.with_rsync_mode(None), Err(LocationError::ModeMissing));
        assert_eq!(btrfs.clone().with_rsync_mode(None), Ok(btrfs));
        assert!("hard".parse::<RsyncMode>().is_err());
    }
}
