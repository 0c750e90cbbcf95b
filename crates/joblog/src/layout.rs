//! Where logs lie under their store's directory, and how their files are made.
//!
//! One directory for each range of 1024 ids, so that none grows without bounds: `N/ID.log` is a log in a file of its own, `N/N.pack`
//! holds the small ones of the range.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Logs in one directory and, at most, in one pack.
pub(crate) const PER_RANGE: u64 = 1024;

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The log with this id.
    Log(u64),
    /// The pack of this range.
    Pack(u64),
}

/// The range that an id lies in.
pub(crate) fn range(id: u64) -> u64 {
    id / PER_RANGE
}

/// The directory of a range.
pub(crate) fn group(dir: &Path, range: u64) -> PathBuf {
    dir.join(range.to_string())
}

/// Where a log lies that has a file of its own.
pub(crate) fn log(dir: &Path, id: u64) -> PathBuf {
    let mut path = group(dir, range(id));
    path.push(format!("{id}.log"));
    path
}

/// Where a range's small logs lie.
pub(crate) fn pack(dir: &Path, range: u64) -> PathBuf {
    let mut path = group(dir, range);
    path.push(format!("{range}.pack"));
    path
}

/// What a file is. `None`: nothing of ours.
pub(crate) fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    if let Some(id) = name.strip_suffix(".log") {
        return id.parse().ok().map(Kind::Log);
    }
    let range = name.strip_suffix(".pack")?.parse().ok()?;
    (range <= u64::MAX / PER_RANGE).then_some(Kind::Pack(range))
}

/// Every file in the directories of ranges, whatever it is, in no order.
pub(crate) fn files(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    entries(dir).flat_map(|group| entries(&group))
}

/// The logs of a range that have files of their own, in no order.
pub(crate) fn logs(dir: &Path, range: u64) -> impl Iterator<Item = u64> + use<> {
    entries(&group(dir, range)).filter_map(|path| match kind(&path)? {
        Kind::Log(id) => Some(id),
        Kind::Pack(_) => None,
    })
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Makes the file of a new log.
///
/// # Errors
/// If there is one already, or the system's error.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    make(path, OpenOptions::new().create_new(true))
}

/// Opens a file that may be there, or makes it.
///
/// # Errors
/// The system's error.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    make(path, OpenOptions::new().create(true))
}

fn make(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.read(true).write(true).mode(0o640);
    // Pruning may remove the empty directory just after it was made, so this is tried again a few times.
    let mut tries = 0;
    loop {
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < 4 => {
                tries += 1;
                if let Some(dir) = path.parent() {
                    std::fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o750)
                        .create(dir)?;
                }
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_others_are_not_ours() {
        assert_eq!(kind(Path::new("x/12.log")), Some(Kind::Log(12)));
        assert_eq!(kind(Path::new("x/12.pack")), Some(Kind::Pack(12)));
        for other in ["x/12.txt", "x/a.log", "x/a.pack", "x/12", "x/.pack"] {
            assert_eq!(kind(Path::new(other)), None, "{other}");
        }
        let dir = Path::new("d");
        assert_eq!(kind(&log(dir, 5000)), Some(Kind::Log(5000)));
        assert_eq!(kind(&pack(dir, range(5000))), Some(Kind::Pack(4)));
    }

    #[test]
    fn the_last_ids_have_a_range_and_no_pack_lies_beyond_it() {
        let last = range(u64::MAX);
        assert_eq!(kind(&pack(Path::new("d"), last)), Some(Kind::Pack(last)));
        assert_eq!(kind(&pack(Path::new("d"), last + 1)), None);
    }
}
