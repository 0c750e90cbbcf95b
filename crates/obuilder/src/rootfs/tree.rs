//! A tree of files, and looking into it.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::mount::MountFlags;

use super::mount::{PreparedMount, unshare_mounts};
use super::options;

/// The kernel takes one page of options, with a zero at its end.
const PAGE: usize = 4096;

/// A tree of files.
#[derive(Clone, Debug)]
pub enum Rootfs {
    /// A directory that can be used as it is.
    Plain(PathBuf),
    /// Layers that must be mounted above each other.
    Overlay(Overlay),
}

/// Layers above each other.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The directory that relative paths in here start from. It keeps the kernel's one page of mount options from overflowing.
    pub start: PathBuf,
    /// The layers that are read, the newest first. At least one.
    pub lower: Vec<PathBuf>,
    /// Where changes go. Without it the tree is read-only.
    pub upper: Option<Upper>,
    /// An empty directory to mount on, absolute.
    pub at: PathBuf,
}

/// Where an overlay's changes go.
#[derive(Clone, Debug)]
pub struct Upper {
    /// The changes.
    pub dir: PathBuf,
    /// A directory on the same filesystem for the kernel's use.
    pub work: PathBuf,
}

/// A tree cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {at}: {source}")]
pub struct MountError {
    /// Where.
    pub at: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Rootfs {
    /// Where the tree is seen, once it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Plain(path) => path,
            Self::Overlay(overlay) => &overlay.at,
        }
    }

    /// What to mount to see it; nothing for a plain one.
    ///
    /// # Errors
    /// Paths that cannot be handed to the kernel, or too many of them.
    pub fn prepare(&self) -> Result<Option<PreparedMount>, MountError> {
        match self {
            Self::Plain(_) => Ok(None),
            Self::Overlay(overlay) => overlay.prepare().map(Some),
        }
    }

    /// Calls `work` with the tree's path, on a thread of its own in whose mount namespace the tree is mounted. It may block. If the
    /// answer is not waited for, `work` still runs to its end.
    ///
    /// # Errors
    /// The tree cannot be mounted, or no thread can be had.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, MountError> {
        let mount = self.prepare()?;
        let path = self.path().to_owned();
        let (answer, answered) = tokio::sync::oneshot::channel();
        thread()
            .spawn(move || {
                // Nobody may wait for it any more.
                let _ = answer.send(catch_unwind(AssertUnwindSafe(|| {
                    mounted(mount.as_ref(), &path, work)
                })));
            })
            .map_err(|source| self.error(source))?;
        match answered.await {
            Ok(Ok(done)) => done.map_err(|source| self.error(source)),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(self.error(io::Error::other("its thread is gone"))),
        }
    }

    /// As [`Rootfs::with`], for threads that may block.
    ///
    /// # Errors
    /// The tree cannot be mounted, or no thread can be had.
    ///
    /// # Panics
    /// When `work` does.
    pub fn with_blocking<T: Send>(
        &self,
        work: impl FnOnce(&Path) -> T + Send,
    ) -> Result<T, MountError> {
        let mount = self.prepare()?;
        let path = self.path();
        std::thread::scope(|scope| {
            let thread = thread()
                .spawn_scoped(scope, || mounted(mount.as_ref(), path, work))
                .map_err(|source| self.error(source))?;
            match thread.join() {
                Ok(done) => done.map_err(|source| self.error(source)),
                Err(panic) => resume_unwind(panic),
            }
        })
    }

    fn error(&self, source: io::Error) -> MountError {
        MountError {
            at: self.path().to_owned(),
            source,
        }
    }
}

/// A thread that ends with a mount namespace of its own, if it needed one: it is not one of a pool.
fn thread() -> std::thread::Builder {
    std::thread::Builder::new().name("rootfs".into())
}

/// On a thread of its own: mounts, works, and unmounts.
fn mounted<T>(
    mount: Option<&PreparedMount>,
    path: &Path,
    work: impl FnOnce(&Path) -> T,
) -> io::Result<T> {
    let Some(mount) = mount else {
        return Ok(work(path));
    };
    unshare_mounts()?;
    mount.perform()?;
    let done = catch_unwind(AssertUnwindSafe(|| work(path)));
    // The namespace ends with the thread, but a little later: whoever waits for the answer may count on the mount being gone.
    mount.undo();
    done.map_or_else(|panic| resume_unwind(panic), Ok)
}

impl Overlay {
    fn prepare(&self) -> Result<PreparedMount, MountError> {
        let refuse = |why: &str| MountError {
            at: self.at.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, why),
        };
        if self.lower.is_empty() || (self.lower.len() == 1 && self.upper.is_none()) {
            return Err(refuse("an overlay needs two layers"));
        }
        if !self.at.is_absolute() {
            return Err(refuse("the mount point must be an absolute path"));
        }
        let mut data = Vec::new();
        let mut stale = Vec::new();
        for (number, lower) in self.lower.iter().enumerate() {
            data.extend_from_slice(if number == 0 { b"lowerdir=" } else { b":" });
            data.extend_from_slice(option(lower).ok_or_else(|| refuse(STRANGE))?);
        }
        let mut flags = MountFlags::empty();
        if let Some(upper) = &self.upper {
            for (name, path) in [("upperdir", &upper.dir), ("workdir", &upper.work)] {
                data.extend_from_slice(format!(",{name}=").as_bytes());
                data.extend_from_slice(option(path).ok_or_else(|| refuse(STRANGE))?);
            }
            if options::has_volatile() {
                data.extend_from_slice(b",volatile");
                stale = volatile_marks(&upper.work).map_err(|_| refuse(STRANGE))?;
            }
        } else {
            // Who only reads needs no device, and runs nothing.
            flags =
                MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        }
        data.extend_from_slice(options::common().as_bytes());
        if data.len() >= PAGE {
            return Err(refuse(
                "the names of its layers do not fit into the kernel's page of mount options",
            ));
        }
        let string = |bytes: &OsStr| c_string(bytes).map_err(|_| refuse(STRANGE));
        Ok(PreparedMount {
            start: string(self.start.as_os_str())?,
            at: string(self.at.as_os_str())?,
            data: string(OsStr::from_bytes(&data))?,
            flags,
            stale,
        })
    }
}

const STRANGE: &str = "a path in it is empty or has a comma, a colon, a backslash or a zero byte, which mount options cannot hold";

/// Kernels differ in how they read escaped characters, so there are none.
fn option(path: &Path) -> Option<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    let plain = !bytes.is_empty() && !bytes.iter().any(|byte| b",:\\\0".contains(byte));
    plain.then_some(bytes)
}

/// What a `volatile` overlay leaves in its work directory: a file in two directories.
fn volatile_marks(work: &Path) -> io::Result<Vec<(CString, AtFlags)>> {
    [
        ("work/incompat/volatile/dirty", AtFlags::empty()),
        ("work/incompat/volatile", AtFlags::REMOVEDIR),
        ("work/incompat", AtFlags::REMOVEDIR),
    ]
    .into_iter()
    .map(|(mark, flags)| Ok((c_string(work.join(mark).as_os_str())?, flags)))
    .collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}
