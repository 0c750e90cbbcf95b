//! Layers unpacked onto plain directories: what they make, what they remove, and what the bad ones do not reach. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/tars.rs"]
mod tars;

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use ocluster_obuilder::image::{
    Expected, Unpack, UnpackError, UnpackLimits, Unpacked, unpack_layer,
};
use tar::EntryType;
use tars::{Tar, gzip, sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A host with a secret and a victim beside the tree.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests change owners: run them as root"
        );
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("tree")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/victim"), "untouched").unwrap();
        Self { directory }
    }

    fn tree(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("tree").join(path)
    }

    fn outside(&self) -> String {
        self.directory.path().join("outside").display().to_string()
    }

    fn unpack(&self, tar: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack_as(tar, &Unpack::default())
    }

    fn unpack_as(&self, bytes: &[u8], how: &Unpack) -> Result<Unpacked, UnpackError> {
        unpack_layer(&self.tree(""), bytes, how, &CancellationToken::new())
    }

    /// Unpacks what must be refused, and returns why.
    fn refused(&self, tar: Tar) -> String {
        let error = self.unpack(&tar.end()).unwrap_err();
        assert!(
            matches!(error, UnpackError::Refused(_) | UnpackError::Damaged(_)),
            "{error:?}"
        );
        error.to_string()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.tree(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let outside = self.directory.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(
            names,
            ["victim"],
            "something was made or removed outside of the tree"
        );
        let victim = outside.join("victim");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        let meta = fs::metadata(&victim).unwrap();
        assert_eq!(
            (meta.nlink(), meta.uid(), meta.mode() & 0o7777),
            (1, 0, 0o644)
        );
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2);
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn everything_a_file_has_is_kept() {
    let host = Host::new();
    let capability: &[u8] = b"\x01\0\0\x02\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new()
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.user.note", b"two\nlines=and \xff"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .append(
            {
                let mut header = tar::Header::new_ustar();
                header.set_path("bin/tool").unwrap();
                header.set_mode(0o6755);
                header.set_uid(7);
                header.set_gid(42);
                header.set_size(5);
                header.set_mtime(5);
                header
            },
            b"tool\n",
        )
        .dir("bin/")
        .symlink("bin/link", "/bin/tool")
        .hard_link("second", "bin/tool")
        .raw(EntryType::Fifo, b"pipe", b"", b"")
        .raw(EntryType::Char, b"null", b"", b"")
        .raw(EntryType::Regular, b"not \xff\xfe\nutf-8", b"", b"x")
        .end();
    let done = host.unpack(&tar).unwrap();
    assert_eq!(
        (done.entries, done.diff_id, done.bytes),
        (7, sha256(&tar), tar.len() as u64)
    );

    let tool = fs::metadata(host.tree("bin/tool")).unwrap();
    assert_eq!(tool.mode(), 0o106755);
    assert_eq!((tool.uid(), tool.gid()), (3_000_000, 42));
    assert_eq!(
        (tool.mtime(), tool.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(tool.ino(), fs::metadata(host.tree("second")).unwrap().ino());
    let xattr = |name| xattr::get(host.tree("bin/tool"), name).unwrap();
    assert_eq!(xattr("user.note").unwrap(), b"two\nlines=and \xff");
    assert_eq!(xattr("security.capability").unwrap(), capability);
    assert_eq!(xattr("trusted.overlay.opaque"), None);
    let bin = fs::metadata(host.tree("bin")).unwrap();
    assert_eq!((bin.mode(), bin.mtime()), (0o40755, 1_000_000_000));
    assert_eq!(
        fs::read_link(host.tree("bin/link")).unwrap(),
        Path::new("/bin/tool")
    );
    assert!(
        fs::metadata(host.tree("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let null = fs::metadata(host.tree("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(
        (
            rustix::fs::major(null.rdev()),
            rustix::fs::minor(null.rdev())
        ),
        (1, 3)
    );
    assert_eq!(
        read(
            host.tree("")
                .join(std::ffi::OsStr::from_bytes(b"not \xff\xfe\nutf-8"))
        ),
        "x"
    );
}

#[test]
fn long_names_of_gnu_and_pax_are_understood() {
    let host = Host::new();
    let deep = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let pax = format!("{}/{}", "p".repeat(150), "q".repeat(200));
    let tar = Tar::new()
        .file(&deep, "gnu")
        .symlink("to-gnu", &deep)
        .pax(&[("path", pax.as_bytes())])
        .file("short", "pax")
        .pax(&[("linkpath", pax.as_bytes())])
        .hard_link("linked", "x")
        .end();
    host.unpack(&tar).unwrap();
    assert_eq!(read(host.tree(&deep)), "gnu");
    assert_eq!(read(host.tree("to-gnu")), "gnu");
    assert_eq!(read(host.tree(&pax)), "pax");
    assert_eq!(read(host.tree("linked")), "pax");
    assert!(!host.tree("short").exists());
}

#[test]
fn gzip_zstd_and_plain_give_the_same_tree_and_diff_id() {
    let tar = Tar::new().file("a", &"content ".repeat(100_000)).end();
    let half = tar.len() / 2;
    let two_members = [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let skippable = [&b"\x50\x2a\x4d\x18\x04\0\0\0skip"[..], &zstd].concat();
    for bytes in [tar.clone(), gzip(&tar), two_members, zstd, skippable] {
        let host = Host::new();
        let how = Unpack {
            expected: Expected {
                digest: Some(sha256(&bytes)),
                diff_id: Some(sha256(&tar)),
            },
            ..Unpack::default()
        };
        assert_eq!(host.unpack_as(&bytes, &how).unwrap().diff_id, sha256(&tar));
        assert_eq!(read(host.tree("a")).len(), 800_000);
    }
}

#[test]
fn a_digest_that_does_not_match_is_told_whatever_else_is_wrong() {
    let host = Host::new();
    let tar = Tar::new().file("a", "b").end();
    let wrong = Expected {
        digest: Some([1; 32]),
        diff_id: None,
    };
    let how = Unpack {
        expected: wrong,
        ..Unpack::default()
    };
    let garbage = vec![b'x'; 100_000];
    let broken_gzip = gzip(&tar)[..20].to_vec();
    for bytes in [tar.clone(), gzip(&tar), garbage, broken_gzip] {
        let error = host.unpack_as(&bytes, &how).unwrap_err();
        assert!(
            matches!(error, UnpackError::Digest { what: "digest", .. }),
            "{error:?}"
        );
    }
    let how = Unpack {
        expected: Expected {
            digest: Some(sha256(&gzip(&tar))),
            diff_id: Some([1; 32]),
        },
        ..Unpack::default()
    };
    let error = host.unpack_as(&gzip(&tar), &how).unwrap_err();
    assert!(
        matches!(
            error,
            UnpackError::Digest {
                what: "diff id",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn bytes_after_the_end_belong_to_the_digests() {
    let host = Host::new();
    let mut tar = Tar::new().file("a", "b").end();
    tar.extend(Tar::new().file("after", "the end").end());
    let how = Unpack {
        expected: Expected {
            digest: Some(sha256(&tar)),
            diff_id: Some(sha256(&tar)),
        },
        ..Unpack::default()
    };
    assert_eq!(host.unpack_as(&tar, &how).unwrap().entries, 1);
    assert_eq!(host.names(""), ["a"]);
}

#[test]
fn whiteouts_remove_what_layers_below_have_put() {
    let host = Host::new();
    let below = Tar::new()
        .file("gone", "1")
        .file("kept", "1")
        .file("dir/gone", "1")
        .file("dir/kept", "1")
        .file("tree/a/b/c", "1")
        .file("opaque/old/x", "1")
        .file("opaque/old2", "1")
        .file("replaced/old", "1")
        .end();
    host.unpack(&below).unwrap();
    let above = Tar::new()
        .file(".wh.gone", "")
        .file("dir/.wh.gone", "")
        .file("dir/.wh.never-was", "")
        .file("nowhere/.wh.x", "")
        .file("kept/.wh.below-a-file", "")
        .file(".wh.tree", "")
        .file("opaque/new", "2")
        .file("opaque/old/y", "2")
        .file("opaque/.wh..wh..opq", "")
        .file("replaced/new", "2")
        .file(".wh.replaced", "")
        .file(".wh..wh.plnk", "")
        .end();
    host.unpack(&above).unwrap();
    assert_eq!(host.names(""), ["dir", "kept", "opaque", "replaced"]);
    assert_eq!(host.names("dir"), ["kept"]);
    // Whiteouts never hide what comes with them, in whichever order.
    assert_eq!(host.names("opaque"), ["new", "old"]);
    assert_eq!(host.names("opaque/old"), ["y"]);
    assert_eq!(host.names("replaced"), ["new"]);
}

#[test]
fn without_whiteouts_such_names_are_names() {
    let host = Host::new();
    let how = Unpack {
        whiteouts: false,
        ..Unpack::default()
    };
    host.unpack_as(&Tar::new().file("a", "1").file(".wh.a", "2").end(), &how)
        .unwrap();
    assert_eq!(host.names(""), [".wh.a", "a"]);
}

#[test]
fn what_is_in_the_way_is_replaced_and_directories_are_merged() {
    let host = Host::new();
    host.unpack(
        &Tar::new()
            .file("dir-to-file/a/b", "1")
            .file("file-to-dir", "1")
            .symlink("link-to-dir", "merged")
            .symlink("link-to-file", "merged/a")
            .file("merged/a", "1")
            .file("first", "1")
            .hard_link("second", "first")
            .end(),
    )
    .unwrap();
    host.unpack(
        &Tar::new()
            .file("dir-to-file", "2")
            .dir("file-to-dir")
            .file("file-to-dir/x", "2")
            .dir("link-to-dir")
            .file("link-to-file", "2")
            .dir("merged")
            .file("merged/b", "2")
            .file("first", "2")
            .hard_link("itself", "merged/b")
            .hard_link("merged/b", "itself")
            .end(),
    )
    .unwrap();
    assert_eq!(read(host.tree("dir-to-file")), "2");
    assert_eq!(read(host.tree("file-to-dir/x")), "2");
    assert!(
        fs::symlink_metadata(host.tree("link-to-dir"))
            .unwrap()
            .is_dir()
    );
    assert_eq!(host.names("link-to-dir"), [""; 0]);
    assert_eq!(read(host.tree("link-to-file")), "2");
    assert_eq!(host.names("merged"), ["a", "b"]);
    assert_eq!(
        (read(host.tree("merged/a")), read(host.tree("merged/b"))),
        ("1".into(), "2".into())
    );
    // A new file does not write through an old name.
    assert_eq!(
        (read(host.tree("first")), read(host.tree("second"))),
        ("2".into(), "1".into())
    );
}

#[test]
fn links_on_the_way_lead_where_they_lead_in_the_image() {
    let host = Host::new();
    let tar = Tar::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/libc", "1")
        .symlink("run", "/var/not/yet")
        .file("run/pid", "2")
        .symlink("a/up", "../../../usr")
        .file("a/up/share/x", "3")
        .end();
    host.unpack(&tar).unwrap();
    assert_eq!(read(host.tree("usr/lib/libc")), "1");
    assert_eq!(read(host.tree("var/not/yet/pid")), "2");
    assert_eq!(read(host.tree("usr/share/x")), "3");
}

#[test]
fn absolute_names_are_relative_to_the_tree() {
    let host = Host::new();
    let name = format!("{}/victim", host.outside());
    host.unpack(&Tar::new().file(&name, "overwritten").end())
        .unwrap();
    assert_eq!(read(host.tree(name.trim_start_matches('/'))), "overwritten");
}

#[test]
fn dot_dot_is_refused_in_names_and_hard_links() {
    let host = Host::new();
    for tar in [
        Tar::new().file("../outside/victim", "overwritten"),
        Tar::new().dir("a").file("a/../../outside/new", "x"),
        Tar::new().raw(EntryType::Directory, b"..", b"", b""),
        Tar::new().hard_link("stolen", "../outside/victim"),
        Tar::new().file("../outside/.wh.victim", ""),
        Tar::new().file(".wh...", ""),
    ] {
        host.refused(tar);
    }
    assert!(!host.tree("stolen").exists());
}

#[test]
fn links_out_of_the_tree_lead_nowhere_outside() {
    let host = Host::new();
    let outside = host.outside();
    // Also links that were in the tree before this layer.
    symlink(&outside, host.tree("old")).unwrap();
    symlink("../outside", host.tree("up")).unwrap();
    let tar = Tar::new()
        .symlink("abs", &outside)
        .file("abs/victim", "1")
        .file("abs/new", "1")
        .dir("abs/directory")
        .file("old/victim", "2")
        .file("up/victim", "3")
        .file("up/.wh.victim", "")
        .file("old/.wh..wh..opq", "")
        .symlink("self", "/proc/self/root")
        .file("self/x", "4")
        .end();
    host.unpack(&tar).unwrap();
    assert_eq!(read(host.tree(&outside[1..]).join("victim")), "2");
    // Its parent is the tree itself, and what this layer made it keeps.
    assert_eq!(read(host.tree("outside/victim")), "3");
}

#[test]
fn files_and_modes_do_not_pass_through_a_link_at_the_end() {
    let host = Host::new();
    let victim = format!("{}/victim", host.outside());
    for name in ["file", "dir", "fifo", "node", "again"] {
        symlink(&victim, host.tree(name)).unwrap();
    }
    let mut chmod = tar::Header::new_gnu();
    chmod.set_path("again").unwrap();
    chmod.set_mode(0o777);
    chmod.set_uid(1);
    chmod.set_gid(1);
    chmod.set_size(0);
    let tar = Tar::new()
        .file("file", "overwritten")
        .dir("dir")
        .raw(EntryType::Fifo, b"fifo", b"", b"")
        .raw(EntryType::Block, b"node", b"", b"")
        .append(chmod, b"")
        .end();
    host.unpack(&tar).unwrap();
    assert_eq!(read(host.tree("file")), "overwritten");
    assert!(fs::symlink_metadata(host.tree("dir")).unwrap().is_dir());
    assert_eq!(
        fs::symlink_metadata(host.tree("again"))
            .unwrap()
            .permissions()
            .mode(),
        0o100777
    );
}

#[test]
fn hard_links_cannot_take_files_of_the_host() {
    let host = Host::new();
    let outside = host.outside();
    let why = host.refused(Tar::new().hard_link("stolen", &format!("{outside}/victim")));
    assert!(why.contains("leads nowhere"), "{why}");
    let through = Tar::new()
        .symlink("x", &outside)
        .hard_link("stolen", "x/victim");
    host.refused(through);
    // A link to a link is a link, whatever that leads to.
    let tar = Tar::new()
        .symlink("y", &format!("{outside}/victim"))
        .hard_link("z", "y")
        .end();
    host.unpack(&tar).unwrap();
    assert!(fs::symlink_metadata(host.tree("z")).unwrap().is_symlink());
    assert!(!host.tree("stolen").exists());
    host.refused(Tar::new().dir("d").hard_link("e", "d"));
    host.refused(Tar::new().hard_link("e", "/"));
}

#[test]
fn an_entry_below_a_file_is_refused() {
    let host = Host::new();
    let why = host.refused(Tar::new().file("a", "1").file("a/b", "2"));
    assert!(why.contains("not a directory"), "{why}");
    host.refused(Tar::new().symlink("l", "a").file("l/b/c", "2"));
}

#[test]
fn links_that_lead_in_circles_are_refused() {
    let host = Host::new();
    host.refused(
        Tar::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", "1"),
    );
    host.refused(Tar::new().symlink("c", "c/d").file("c/x", "1"));
    host.refused(Tar::new().symlink("e", ""));
}

#[test]
fn names_with_nul_bytes_and_overlay_marks_are_refused() {
    let host = Host::new();
    host.refused(Tar::new().pax(&[("path", b"a\0b")]).file("x", "1"));
    host.refused(Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", "y"));
    let mut mark = tar::Header::new_gnu();
    mark.set_entry_type(EntryType::Char);
    mark.set_path("mark").unwrap();
    mark.set_mode(0);
    mark.set_size(0);
    mark.set_device_major(0).unwrap();
    mark.set_device_minor(0).unwrap();
    host.refused(Tar::new().append(mark, b""));
    assert_eq!(host.names(""), [""; 0]);
}

#[test]
fn the_top_may_get_attributes_but_stays_a_directory() {
    let host = Host::new();
    host.refused(Tar::new().symlink("./", "/etc"));
    host.refused(Tar::new().hard_link("/", "x"));
    let mut top = tar::Header::new_gnu();
    top.set_entry_type(EntryType::Directory);
    top.set_path("./").unwrap();
    top.set_mode(0o1777);
    top.set_uid(5);
    top.set_gid(6);
    top.set_size(0);
    top.set_mtime(77);
    host.unpack(&Tar::new().append(top, b"").file("a", "1").end())
        .unwrap();
    let meta = fs::metadata(host.tree("")).unwrap();
    assert_eq!(
        (meta.mode(), meta.uid(), meta.gid(), meta.mtime()),
        (0o41777, 5, 6, 77)
    );
}

#[test]
fn bombs_end_at_the_limits() {
    let host = Host::new();
    let limits = UnpackLimits {
        bytes: 1 << 20,
        entries: 100,
        directory_names: 10_000,
    };
    let how = Unpack {
        limits,
        ..Unpack::default()
    };
    let zeros = "\0".repeat(10 << 20);
    let bomb = Tar::new().file("zeros", &zeros).end();
    for bytes in [gzip(&bomb), zstd::encode_all(&bomb[..], 3).unwrap()] {
        assert!(bytes.len() < 200_000);
        let why = host.unpack_as(&bytes, &how).unwrap_err().to_string();
        assert!(why.contains("more than 1048576 bytes"), "{why}");
    }
    let many = (0..101).fold(Tar::new(), |tar, n| tar.file(&n.to_string(), ""));
    let why = host.unpack_as(&many.end(), &how).unwrap_err().to_string();
    assert!(why.contains("more than 100 entries"), "{why}");
    let long = (0..90).fold(Tar::new(), |tar, n| {
        tar.dir(&format!("{n}{}", "x".repeat(200)))
    });
    let why = host.unpack_as(&long.end(), &how).unwrap_err().to_string();
    assert!(why.contains("names of its directories"), "{why}");
    let records = vec![b'x'; 2 << 20];
    let why = host.refused(Tar::new().pax(&[("comment", &records)]).file("a", ""));
    assert!(why.contains("names and attributes"), "{why}");
}

#[test]
fn a_tar_that_says_more_than_it_has_is_damaged() {
    let host = Host::new();
    for size in [1 << 20, u64::MAX >> 1, 0o77777777777] {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_mode(0o644);
        header.set_size(size);
        let error = host
            .unpack(&Tar::new().append(header, b"short").cut())
            .unwrap_err();
        assert!(matches!(error, UnpackError::Damaged(_)), "{error:?}");
    }
    let pax_size = Tar::new()
        .pax(&[("size", b"18446744073709551615")])
        .file("a", "");
    host.refused(pax_size);
    let two_sizes = Tar::new()
        .pax(&[("size", b"1"), ("size", b"512")])
        .file("a", "");
    host.refused(two_sizes);
    let nothing_follows = Tar::new().pax(&[("path", b"a")]);
    host.refused(nothing_follows);
    for garbage in [
        &b"garbage"[..],
        &[b'x'; 2000],
        b"\x1f\x8b\x08garbage",
        b"\x28\xb5\x2f\xfdx",
    ] {
        let error = host.unpack(garbage).unwrap_err();
        assert!(matches!(error, UnpackError::Damaged(_)), "{error:?}");
    }
    for other in [&b"\xfd7zXZ\0"[..], b"BZh91AY"] {
        assert!(
            host.unpack(other)
                .unwrap_err()
                .to_string()
                .contains("is compressed with")
        );
    }
}

#[test]
fn directories_that_a_layer_does_not_speak_of_keep_their_times() {
    let host = Host::new();
    let below = Tar::new()
        .dir("./")
        .dir("a")
        .dir("b")
        .dir("c")
        .file("a/x", "1")
        .file("b/x", "1");
    host.unpack(&below.end()).unwrap();
    let above = Tar::new()
        .file("a/y", "2")
        .file("b/.wh.x", "")
        .file("c/.wh..wh..opq", "")
        .file("new", "2");
    host.unpack(&above.end()).unwrap();
    for directory in ["", "a", "b", "c"] {
        let modified = fs::metadata(host.tree(directory)).unwrap().mtime();
        assert_eq!(modified, 1_000_000_000, "{directory}");
    }
}

#[test]
fn padding_may_be_missing_at_the_end_and_nowhere_else() {
    let host = Host::new();
    let mut tar = Tar::new().file("a", "1").file("b", "2").cut();
    tar.truncate(tar.len() - 511);
    assert_eq!(host.unpack(&tar).unwrap().entries, 2);
    assert_eq!(read(host.tree("b")), "2");
    tar.truncate(tar.len() - 1);
    host.unpack(&tar).unwrap_err();
}

#[test]
fn sparse_and_unknown_entries_are_refused_by_name() {
    let host = Host::new();
    let why = host.refused(Tar::new().raw(EntryType::GNUSparse, b"holes", b"", b""));
    assert!(why.contains("\"holes\"") && why.contains("sparse"), "{why}");
    let pax = Tar::new()
        .pax(&[("GNU.sparse.major", b"1")])
        .file("holes", "");
    assert!(host.refused(pax).contains("sparse"));
    host.refused(Tar::new().raw(EntryType::new(b'V'), b"volume", b"", b""));
}

#[test]
fn empty_layers_are_layers() {
    let host = Host::new();
    for empty in [Tar::new().end(), Tar::new().cut(), gzip(&Tar::new().end())] {
        assert_eq!(host.unpack(&empty).unwrap().entries, 0);
    }
}

#[test]
fn trees_deeper_than_descriptors_and_paths_are_removed() {
    let host = Host::new();
    // Links carry each entry further down than a path may be long.
    let step = "downwards/".repeat(370);
    let mut tar = Tar::new();
    let mut start = String::new();
    for level in 0..3 {
        tar = tar.dir(&format!("{start}{step}"));
        let link = format!("l{level}");
        tar = tar.symlink(&link, &format!("{start}{step}"));
        start = format!("{link}/");
    }
    let tar = tar.file(&format!("{start}bottom"), "x").end();
    host.unpack(&tar).unwrap();
    assert_eq!(read(host.tree("l2/bottom")), "x");
    host.unpack(&Tar::new().file(".wh.downwards", "").end())
        .unwrap();
    assert_eq!(host.names(""), ["l0", "l1", "l2"]);
}

#[test]
fn a_source_that_fails_or_is_cancelled_says_so() {
    struct Fails(u64);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 > 100_000 {
                return Err(io::Error::other("the disk is on fire"));
            }
            let tar = Tar::new().file("a", &"x".repeat(1 << 20)).cut();
            let got = (&tar[self.0 as usize..]).read(buffer)?;
            self.0 += got as u64;
            Ok(got)
        }
    }
    let host = Host::new();
    let how = Unpack::default();
    let error =
        unpack_layer(&host.tree(""), Fails(0), &how, &CancellationToken::new()).unwrap_err();
    assert!(matches!(error, UnpackError::Read(_)), "{error:?}");
    assert!(error.to_string().contains("on fire"), "{error}");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let endless = io::repeat(b'x');
    let error = unpack_layer(&host.tree(""), endless, &how, &cancel).unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled), "{error:?}");
}
