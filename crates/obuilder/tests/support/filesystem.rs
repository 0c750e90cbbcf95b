//! Real filesystems for tests: images on loop devices, mounted where nobody else sees them.
//!
//! Nothing outlives the test's process, however it ends: the mounts are in mount namespaces of its threads; the device lets go of the
//! image with its last user, since it is told so as soon as it is there; and the image has no name from then on.

#![expect(
    unsafe_code,
    reason = "a thread can only leave its mount namespace by an unsafe call"
)]

use std::fs::File;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    Ext4,
    Btrfs,
    Xfs,
    /// In memory, and without attributes.
    Ramfs,
}

impl Filesystem {
    fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::Ramfs => "ramfs",
        }
    }

    fn make(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Self::Btrfs => &["mkfs.btrfs", "-q"],
            Self::Xfs => &["mkfs.xfs", "-q", "-m", "reflink=1"],
            Self::Ramfs => panic!("there is nothing to be made"),
        }
    }

    /// The least that its `mkfs` is content with, and room for the tests, in MiB. The images are sparse.
    fn mebibytes(self) -> u64 {
        match self {
            Self::Ext4 => 256,
            Self::Btrfs => 768,
            Self::Xfs => 640,
            Self::Ramfs => 0,
        }
    }

    /// The least that its `mkfs` is content with, in MiB.
    fn least_mebibytes(self) -> u64 {
        match self {
            Self::Ext4 => 32,
            Self::Btrfs => 128,
            Self::Xfs => 300,
            Self::Ramfs => 0,
        }
    }
}

/// A block device with a filesystem in it.
struct Device {
    path: PathBuf,
    /// The device lives for as long as this, and as mounts of it.
    _open: File,
}

impl Device {
    fn new(filesystem: Filesystem, mebibytes: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let image = dir.path().join("image");
        File::create(&image)
            .unwrap()
            .set_len(mebibytes << 20)
            .unwrap();
        let (program, options) = filesystem.make().split_first().unwrap();
        run(Command::new(program).args(options).arg(&image));
        let path = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image));
        let path = PathBuf::from(path.trim());
        let open = File::open(&path);
        // While it is open, this only says that the device goes with its last user.
        run(Command::new("losetup").arg("--detach").arg(&path));
        Self {
            path,
            _open: open.unwrap(),
        }
    }

    /// The one that all tests of the process share.
    fn shared(filesystem: Filesystem) -> &'static Self {
        static EXT4: OnceLock<Device> = OnceLock::new();
        static BTRFS: OnceLock<Device> = OnceLock::new();
        static XFS: OnceLock<Device> = OnceLock::new();
        let device = match filesystem {
            Filesystem::Ext4 => &EXT4,
            Filesystem::Btrfs => &BTRFS,
            Filesystem::Xfs => &XFS,
            Filesystem::Ramfs => panic!("there is no device"),
        };
        device.get_or_init(|| Self::new(filesystem, filesystem.mebibytes()))
    }
}

/// A mounted filesystem, seen by this thread and those it starts. It is unmounted when this is dropped.
pub(crate) struct Mounted {
    at: TempDir,
    _device: Option<Device>,
}

impl Mounted {
    /// An empty directory of a filesystem that other tests use, too.
    pub(crate) fn shared(filesystem: Filesystem) -> (Self, TempDir) {
        let mounted = match filesystem {
            Filesystem::Ramfs => Self::small(filesystem),
            _ => Self::mount(filesystem, &Device::shared(filesystem).path, None),
        };
        let dir = TempDir::new_in(mounted.at.path()).unwrap();
        (mounted, dir)
    }

    /// A filesystem of its own, as small as that kind can be.
    pub(crate) fn small(filesystem: Filesystem) -> Self {
        match filesystem {
            Filesystem::Ramfs => Self::mount(filesystem, Path::new("none"), None),
            _ => {
                let device = Device::new(filesystem, filesystem.least_mebibytes());
                let path = device.path.clone();
                Self::mount(filesystem, &path, Some(device))
            }
        }
    }

    fn mount(filesystem: Filesystem, source: &Path, device: Option<Device>) -> Self {
        let at = TempDir::new().unwrap();
        mount(
            source,
            at.path(),
            filesystem.word(),
            MountFlags::empty(),
            None,
        )
        .unwrap_or_else(|error| {
            panic!(
                "the kernel cannot mount {} here ({error}): it needs root, and that filesystem",
                filesystem.word()
            )
        });
        Self {
            at,
            _device: device,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(self.at.path(), UnmountFlags::DETACH);
    }
}

/// Runs `test` on a thread whose mounts, and those of the threads and processes it starts, nobody else sees.
pub(crate) fn where_nobody_sees<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let ended = std::thread::scope(|scope| {
        let own = scope.spawn(|| {
            // SAFETY: the thread was just started, and shares nothing with others that this takes from them: its descriptors stay shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
                .expect("these tests need root");
            let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", all).unwrap();
            test()
        });
        own.join()
    });
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

fn run(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("these tests need the program {program:?}: {error}"));
    assert!(
        done.status.success(),
        "{program:?} failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}
