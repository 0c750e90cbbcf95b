//! A layer that is partly there: `<blobs>/<digest>[-PLACE].partial`, and the digest of what it has so far. All of it blocks.
//!
//! Nothing of what is found on the disk is believed: it is read and hashed again, so a crash or a bad disk costs time and no more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::Digest;
use super::trouble::Trouble;

/// How long what nobody fetched to its end is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The end of the name of what is not whole.
const PARTIAL: &str = "partial";
/// The end of the name of what is being removed.
const REMOVED: &str = "removed";
/// How much is read at once.
const PIECE: usize = 256 << 10;

/// A layer that is being downloaded.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
}

/// Where a whole layer is, until it is handed over. Each of those who download the same at once has a place of its own.
pub(super) fn whole_path(dir: &Path, digest: Digest, place: usize) -> PathBuf {
    dir.join(match place {
        0 => digest.hex(),
        place => format!("{}-{place}", digest.hex()),
    })
}

/// A file of a directory of layers.
struct Left {
    path: PathBuf,
    layer: (Digest, usize),
    len: u64,
    written: SystemTime,
}

/// Makes `dir`, and removes from it what was last written a week ago; and then the oldest, until there are at most `most` bytes (or a
/// tenth of the disk). `allow` is asked about each of them, and calls what it is given if nobody uses that layer.
pub(super) fn tidy(
    dir: &Path,
    most: u64,
    allow: impl Fn(Digest, usize, &mut dyn FnMut()),
) -> Result<(), Trouble> {
    fs::create_dir_all(dir).map_err(|error| Trouble::disk("create", dir, &error))?;
    let listed = fs::read_dir(dir).map_err(|error| Trouble::disk("read", dir, &error))?;
    let most = match rustix::fs::statvfs(dir) {
        Ok(disk) => most.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 10),
        Err(_) => most,
    };
    let mut all: Vec<Left> = listed.flatten().filter_map(|entry| left(&entry)).collect();
    all.sort_unstable_by_key(|left| left.written);
    let mut total: u64 = all.iter().map(|left| left.len).sum();
    let now = SystemTime::now();
    for Left {
        path,
        layer,
        len,
        written,
    } in all
    {
        let is_old = now.duration_since(written).is_ok_and(|age| age > KEPT);
        if !is_old && total <= most {
            continue;
        }
        // Large files take a while to be removed, and a new name no time.
        let removed = path.with_extension(REMOVED);
        let mut is_taken = false;
        allow(layer.0, layer.1, &mut || {
            is_taken = fs::rename(&path, &removed).is_ok();
        });
        // What cannot be removed now is tried next time.
        if is_taken && fs::remove_file(&removed).is_ok() {
            total -= len;
        }
    }
    Ok(())
}

/// What is known of a file, if it is ours.
fn left(entry: &fs::DirEntry) -> Option<Left> {
    let path = entry.path();
    let name = path.file_name()?.to_str()?;
    let name = match name.rsplit_once('.') {
        None => name,
        Some((name, PARTIAL | REMOVED)) => name,
        Some(_) => return None,
    };
    let (hex, place) = match name.split_once('-') {
        Some((hex, place)) => (hex, place.parse().ok()?),
        None => (name, 0),
    };
    let digest = format!("sha256:{hex}").parse().ok()?;
    let meta = entry.metadata().ok()?;
    Some(Left {
        layer: (digest, place),
        len: meta.len(),
        written: meta.modified().ok()?,
        path,
    })
}

impl Partial {
    /// What there is of a layer of at most `size` bytes that is to be `whole`.
    pub(super) fn open(
        whole: &Path,
        size: u64,
        cancel: &CancellationToken,
    ) -> Result<Self, Trouble> {
        let path = whole.with_extension(PARTIAL);
        // One that was left whole by a process that was killed.
        match fs::rename(whole, &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Trouble::disk("rename", whole, &error));
            }
            _ => {}
        }
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // It may be a part of an image that is not for everybody.
                .mode(0o600)
                .open(&path)
        };
        let file = open().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(path.parent().unwrap_or(whole))?;
            open()
        });
        let file = file.map_err(|error| Trouble::disk("create", &path, &error))?;
        let mut partial = Self {
            path,
            file,
            hash: Sha256::new(),
            len: 0,
        };
        partial.hash_again(cancel)?;
        if partial.len > size {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn hash_again(&mut self, cancel: &CancellationToken) -> Result<(), Trouble> {
        let mut piece = vec![0; PIECE];
        loop {
            if cancel.is_cancelled() {
                return Err(Trouble::Cancelled);
            }
            match self.file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hash.update(piece.get(..count).unwrap_or_default());
                    self.len += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::disk("read", &self.path, &error)),
            }
        }
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| Trouble::disk("write", &self.path, &error))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Throws all of it away.
    pub(super) fn restart(&mut self) -> Result<(), Trouble> {
        let emptied = self.file.set_len(0);
        emptied
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|error| Trouble::disk("empty", &self.path, &error))?;
        self.hash = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// The digest of what there is.
    pub(super) fn digest(&self) -> Digest {
        let bytes: [u8; 32] = self.hash.clone().finalize().into();
        bytes.into()
    }

    /// Gives it the name of a whole layer.
    pub(super) fn finish(self, whole: &Path) -> Result<(), Trouble> {
        fs::rename(&self.path, whole).map_err(|error| Trouble::disk("rename", &self.path, &error))
    }

    /// Removes it.
    pub(super) fn remove(self) {
        // What stays is hashed and found wrong next time.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use tokio_util::sync::CancellationToken;

    use super::{Partial, tidy, whole_path};
    use crate::image::registry::Digest;

    fn open(dir: &std::path::Path, digest: Digest) -> Partial {
        Partial::open(&whole_path(dir, digest, 0), 100, &CancellationToken::new())
            .unwrap_or_else(|trouble| panic!("{trouble:?}"))
    }

    #[test]
    fn what_is_there_is_hashed_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let digest = Digest::of(b"hello world");
        let mut partial = open(dir.path(), digest);
        partial.append(b"hello ").expect("room");
        drop(partial);
        let mut partial = open(dir.path(), digest);
        assert_eq!(partial.len(), 6);
        partial.append(b"world").expect("room");
        assert_eq!(partial.digest(), digest);
        let whole = whole_path(dir.path(), digest, 0);
        partial.finish(&whole).expect("a name");
        assert_eq!(fs::read(&whole).expect("a file"), b"hello world");
        // A process that is killed here leaves it, and the next one finds it.
        assert_eq!(open(dir.path(), digest).digest(), digest);
        assert!(!whole.exists());
    }

    #[test]
    fn more_than_the_layer_can_have_is_thrown_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let digest = Digest::of(b"");
        open(dir.path(), digest).append(&[1; 101]).expect("room");
        let partial = open(dir.path(), digest);
        assert_eq!((partial.len(), partial.digest()), (0, digest));
    }

    #[test]
    fn what_nobody_wanted_for_a_week_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = format!("{}.partial", Digest::of(b"old").hex());
        let new = format!("{}.partial", Digest::of(b"new").hex());
        let foreign = "letter.txt";
        let week = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
        for (name, aged) in [(old.as_str(), true), (&new, false), (foreign, true)] {
            let file = File::create(dir.path().join(name)).expect("a file");
            if aged {
                file.set_modified(week).expect("a time");
            }
        }
        tidy(dir.path(), 100, |_, _, take| take()).expect("tidy");
        assert!(!dir.path().join(&old).exists());
        assert!(dir.path().join(&new).exists() && dir.path().join(foreign).exists());
    }

    #[test]
    fn what_is_left_is_bounded_and_the_oldest_goes_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let digests = [1, 2, 3, 4].map(|n| Digest::of(&[n]));
        for (digest, hours) in digests.iter().zip([4, 3, 2, 1]) {
            let mut partial = open(dir.path(), *digest);
            partial.append(&[0; 40]).expect("room");
            let age = Duration::from_secs(hours * 3600);
            partial
                .file
                .set_modified(SystemTime::now() - age)
                .expect("a time");
        }
        // Somebody writes to the second one.
        let allow = |digest, _, take: &mut dyn FnMut()| {
            if digest != digests[1] {
                take();
            }
        };
        tidy(dir.path(), 90, allow).expect("tidy");
        let is_there = digests.map(|digest| {
            let whole = whole_path(dir.path(), digest, 0);
            whole.with_extension("partial").exists()
        });
        assert_eq!(is_there, [false, true, false, true]);
        let listed = fs::read_dir(dir.path()).expect("a directory");
        assert_eq!(listed.count(), 2);
    }
}
