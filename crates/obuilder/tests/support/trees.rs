//! Trees with one of everything, and what two trees have to agree on.

#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use tempfile::TempDir;

/// A tree with files of all kinds.
pub fn varied() -> TempDir {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests change owners: run them as root"
    );
    let tree = TempDir::new().unwrap();
    let path = |name: &str| tree.path().join(name);
    fs::create_dir_all(path("bin")).unwrap();
    fs::create_dir_all(path("empty")).unwrap();
    fs::create_dir_all(path(&"deep/".repeat(5))).unwrap();
    fs::write(path("bin/setuid"), "#!/bin/sh\n").unwrap();
    chown(path("bin/setuid"), Some(12), Some(34)).unwrap();
    fs::set_permissions(path("bin/setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    xattr::set(
        path("bin/setuid"),
        "security.capability",
        b"\x01\0\0\x02\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    )
    .unwrap();
    fs::hard_link(path("bin/setuid"), path("hard")).unwrap();
    fs::write(path("large"), "0123456789abcdef".repeat(70_000)).unwrap();
    fs::write(path("nothing"), "").unwrap();
    fs::write(path(&"long name ".repeat(20)), "long").unwrap();
    fs::write(
        tree.path().join(std::ffi::OsStr::from_bytes(b"raw \xff\n")),
        "raw",
    )
    .unwrap();
    xattr::set(path("nothing"), "user.note", b"a\nb=\xff\0c").unwrap();
    symlink("../nowhere", path("bin/link")).unwrap();
    lchown(path("bin/link"), Some(3_000_000), Some(5)).unwrap();
    symlink("x".repeat(300), path("long-link")).unwrap();
    rustix::fs::mknodat(
        CWD,
        path("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        path("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        null,
    )
    .unwrap();
    fs::set_permissions(path("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(path("empty"), Some(1000), Some(1000)).unwrap();
    let times = [
        ("large", -5, 500_000_000),
        ("empty", 77, 0),
        ("bin/link", 1, 123_456_789),
        ("bin", 3, 0),
    ];
    for (name, tv_sec, tv_nsec) in times {
        let at = Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: at,
            last_modification: at,
        };
        rustix::fs::utimensat(CWD, path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    tree
}

/// Everything that should be the same in two trees, by path.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut links = HashMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let mut xattrs: Vec<_> = xattr::list(&path)
            .unwrap()
            .filter(|name| name != "security.selinux")
            .map(|name| {
                let value = xattr::get(&path, &name).unwrap();
                (name, value)
            })
            .collect();
        xattrs.sort();
        let content = if meta.is_file() {
            format!("{:?}", tars_sha256(&fs::read(&path).unwrap()))
        } else if meta.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else {
            String::new()
        };
        let size = if meta.is_dir() { 0 } else { meta.size() };
        let first = if meta.is_dir() || meta.nlink() == 1 {
            None
        } else {
            let names: &mut Vec<PathBuf> = links.entry(meta.ino()).or_default();
            names.push(name.clone());
            Some(meta.nlink())
        };
        let summary = format!(
            "{:o} {}:{} {}.{} {:?} {size} {:x} {xattrs:?} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            first,
            meta.rdev()
        );
        all.insert(name, summary);
        if meta.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    all
}

/// Fails with what differs, if two trees do.
pub fn assert_same(found: &Path, expected: &Path) {
    let (found, expected) = (snapshot(found), snapshot(expected));
    let different: Vec<_> = expected
        .keys()
        .chain(found.keys())
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|name| {
            format!(
                "{name:?}: {:?} instead of {:?}",
                found.get(name),
                expected.get(name)
            )
        })
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn tars_sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// Runs a program that has to succeed, and returns what it printed.
pub fn run(program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let mut command = Command::new(program);
    arguments(&mut command);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run `{program}`: {error}; install it"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
