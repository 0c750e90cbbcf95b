//! Trees of files with all that a store must keep, and descriptions of trees to compare.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use sha2::{Digest, Sha256};

/// A line for each file below `tree`, and one for itself, sorted: everything about it that steps can see and a store must keep.
pub(crate) fn describe(tree: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut groups = BTreeMap::new();
    walk(tree, tree, &mut lines, &mut groups);
    // Names that other trees have for a file are none of this one's business.
    for names in groups.values().filter(|names| names.len() > 1) {
        for line in names {
            let _ = write!(
                lines[*line],
                " linked {} times from {}",
                names.len(),
                names[0]
            );
        }
    }
    lines
}

fn walk(top: &Path, at: &Path, lines: &mut Vec<String>, groups: &mut BTreeMap<u64, Vec<usize>>) {
    let found = at.symlink_metadata().unwrap();
    let kind = found.file_type();
    let name = format!("{:?}", at.strip_prefix(top).unwrap().as_os_str());
    let mut line = format!("{name} {:o} {}:{}", found.mode(), found.uid(), found.gid());
    if kind.is_file() {
        let digest = Sha256::digest(std::fs::read(at).unwrap());
        let _ = write!(line, " {} bytes {:.8}", found.len(), format!("{digest:x}"));
    }
    if kind.is_symlink() {
        let _ = write!(line, " -> {:?}", std::fs::read_link(at).unwrap());
    }
    if kind.is_char_device() || kind.is_block_device() {
        let _ = write!(line, " device {:x}", found.rdev());
    }
    if !kind.is_dir() {
        let _ = write!(line, " at {}.{:09}", found.mtime(), found.mtime_nsec());
        groups.entry(found.ino()).or_default().push(lines.len());
    }
    let mut names: Vec<_> = xattr::list(at).unwrap().collect();
    names.sort();
    for name in names {
        let value = xattr::get(at, &name).unwrap();
        let _ = write!(line, " {name:?}={value:x?}");
    }
    lines.push(line);
    if kind.is_dir() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(at)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for entry in entries {
            walk(top, &entry, lines, groups);
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives the file (not what it links to) a time to the nanosecond.
pub(crate) fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Fills `top` with one of everything.
pub(crate) fn strange(top: &Path) {
    set_mode(top, 0o751);
    chown(top, Some(12), Some(34)).unwrap();
    xattr::set(top, "user.top", b"of the tree").unwrap();

    for (name, mode) in [
        ("shared", 0o1777),
        ("group", 0o2775),
        ("private", 0o700),
        ("closed", 0o000),
        ("empty", 0o755),
    ] {
        let dir = top.join(name);
        std::fs::create_dir(&dir).unwrap();
        chown(&dir, Some(1000), Some(1001)).unwrap();
        set_mode(&dir, mode);
    }
    xattr::set(top.join("private"), "user.dir", b"kept").unwrap();

    for (name, content, mode, owner) in [
        ("plain", b"text".to_vec(), 0o644, 0),
        ("nothing", Vec::new(), 0o600, 7),
        ("long", vec![b'l'; 300_000], 0o640, 70_000),
        ("setuid", b"#!/bin/sh".to_vec(), 0o4755, 1000),
        ("setgid", b"#!/bin/sh".to_vec(), 0o2711, 1000),
        ("unreadable", b"secret".to_vec(), 0o000, 0),
        ("private/within", b"deep".to_vec(), 0o444, 5),
    ] {
        let file = top.join(name);
        std::fs::write(&file, content).unwrap();
        chown(&file, Some(owner), Some(owner + 1)).unwrap();
        set_mode(&file, mode);
        set_time(&file, 1_234_567_890, 123_456_789);
    }
    let sparse = std::fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();

    for name in [
        &b"not \xff\xfe text"[..],
        b"with space",
        b" ",
        b"new\nline",
        b"-rf",
        b"*",
        b"a:b",
        b"back\\slash",
        b"'\"$(x)",
        &[b'n'; 255],
    ] {
        std::fs::write(top.join(OsStr::from_bytes(name)), name).unwrap();
    }

    std::fs::hard_link(top.join("plain"), top.join("linked")).unwrap();
    std::fs::hard_link(top.join("plain"), top.join("shared/linked too")).unwrap();

    for (name, target) in [
        ("relative", "plain"),
        ("absolute", "/etc/passwd"),
        ("dangling", "../../nowhere"),
        ("round", "round"),
    ] {
        let link = top.join(name);
        symlink(target, &link).unwrap();
        lchown(&link, Some(1000), Some(1000)).unwrap();
        set_time(&link, 1_000_000_000, 5);
    }
    symlink("x".repeat(1000), top.join("far")).unwrap();

    let device = |name: &str, kind, device| {
        mknodat(
            CWD,
            top.join(name),
            kind,
            Mode::from_raw_mode(0o620),
            device,
        )
        .unwrap();
        set_time(&top.join(name), 1_100_000_000, 7);
    };
    device("null", FileType::CharacterDevice, makedev(1, 3));
    device("disk", FileType::BlockDevice, makedev(259, 7));
    device("pipe", FileType::Fifo, 0);
    drop(UnixListener::bind(top.join("socket")).unwrap());
    set_time(&top.join("socket"), 1_100_000_000, 8);

    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let capable = top.join("capable");
    std::fs::write(&capable, "ping").unwrap();
    set_mode(&capable, 0o755);
    xattr::set(&capable, "security.capability", &capability).unwrap();
    xattr::set(&capable, "user.text", b"a value\0with zero").unwrap();
    xattr::set(&capable, "trusted.mine", b"root's").unwrap();
    // Version 2; user::rw-, user 1000:r--, group::r--, mask::r--, other::---.
    let mut list = vec![2, 0, 0, 0];
    for (tag, may, whose) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(may.to_le_bytes());
        list.extend(whose.to_le_bytes());
    }
    let listed = top.join("listed");
    std::fs::write(&listed, "acl").unwrap();
    xattr::set(&listed, "system.posix_acl_access", &list).unwrap();
}
