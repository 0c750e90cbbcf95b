//! Contexts and images that were made to cause harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copy_support;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use copy_support::{Tree, file, sha256, taking};
use ocluster_obuilder::spec::Manifest;
use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat};

const ROOT: (u32, u32) = (0, 0);

#[test]
fn devices_pipes_and_sockets_are_refused_by_name() {
    let tree = Tree::new().dir("d");
    let _socket = UnixListener::bind(tree.at("d/socket")).unwrap();
    let node = |name: &str, kind, device| {
        mknodat(CWD, tree.at(name), kind, Mode::from_raw_mode(0o666), device)
            .expect("making device nodes, for which this test needs to be root");
    };
    let refused = |name: &str| {
        let expected = format!("Unsupported file type for \"{name}\"");
        assert_eq!(tree.manifest("d"), Err(expected.clone()));
        assert_eq!(
            tree.manifest(name),
            Err(format!("Not a regular file: {name} (in \"{name}\")"))
        );
        fs::remove_file(tree.at(name)).unwrap();
    };
    refused("d/socket");
    node("d/pipe", FileType::Fifo, 0);
    refused("d/pipe");
    node(
        "d/zero",
        FileType::CharacterDevice,
        rustix::fs::makedev(1, 5),
    );
    refused("d/zero");
    node("d/block", FileType::BlockDevice, rustix::fs::makedev(7, 0));
    refused("d/block");
    assert!(tree.manifest("d").is_ok());
}

#[test]
fn links_out_of_the_context_are_copied_as_links() {
    let outside = Tree::new().file("secret", "secret");
    let secret = outside.at("secret");
    let target = secret.to_str().unwrap();
    let context = Tree::new()
        .link("abs", target)
        .link("dir", outside.root().to_str().unwrap())
        .link("up", "../../../../../../etc/shadow");
    let image = Tree::new();
    context.copy(&taking(["."], "/x/"), ROOT, &image).unwrap();
    assert_eq!(fs::read_link(image.at("x/abs")).unwrap(), Path::new(target));
    for name in ["x/abs", "x/dir", "x/up"] {
        assert!(image.at(name).is_symlink());
    }
    assert_eq!(
        context.manifest("dir/secret"),
        Err(r#"Not a regular file: dir (in "dir/secret")"#.to_owned())
    );
}

/// Somebody swaps a directory for a link to one outside all the time. The secret's hash must never come out of it.
#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    let mut outside = Tree::new().file("f", "secret");
    let mut context = Tree::new().file("d/f", "harmless");
    // Each directory below is another chance to be led out.
    for n in 0..30 {
        outside = outside.file(format!("{n}/f"), "secret");
        context = context.file(format!("d/{n}/f"), "harmless");
    }
    let context = context.link("other", outside.root().to_str().unwrap());
    let secret = sha256("secret");
    let stop = AtomicBool::new(false);
    let (dir, other) = (context.at("d"), context.at("other"));
    std::thread::scope(|scope| {
        let _stopper = Stopper(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    CWD,
                    &dir,
                    CWD,
                    &other,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        let start = Instant::now();
        let (mut files, mut links) = (0, 0);
        while start.elapsed() < Duration::from_secs(30) && (files < 30 || links < 30) {
            for src in ["d/f", "d"] {
                match context.manifest(src) {
                    Ok(found) => {
                        assert!(!holds(&found, &secret), "{found:?}");
                        if matches!(found, Manifest::Symlink { .. }) {
                            links += 1;
                        } else {
                            files += 1;
                        }
                    }
                    Err(error) => assert!(!error.contains("secret"), "{error}"),
                }
            }
        }
        assert!(files >= 30 && links >= 30, "{files} files, {links} links");
    });
}

/// Stops the swapping, however the test ends.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn holds(manifest: &Manifest, hash: &[u8; 32]) -> bool {
    match manifest {
        Manifest::File { sha256, .. } => sha256 == hash,
        Manifest::Symlink { .. } => false,
        Manifest::Dir { entries, .. } => entries.iter().any(|entry| holds(entry, hash)),
    }
}

#[test]
fn destinations_stay_within_the_image() {
    let outside = Tree::new();
    let context = Tree::new().file("f", "f");
    let image = Tree::new()
        .link("abs", outside.root().to_str().unwrap())
        .link("up", "../../../../../../../../../../..")
        .link("chain", "up/abs/../..");
    for dst in [
        "/../../../a/",
        "/abs/b/",
        "/abs/c",
        "/up/d/",
        "/up/e",
        "/chain/g/",
        "/x/../../../h/",
        "/x/../../../../i",
    ] {
        context.copy(&taking(["f"], dst), ROOT, &image).unwrap();
    }
    assert_eq!(fs::read_dir(outside.root()).unwrap().count(), 0);
    let seen = outside.root().strip_prefix("/").unwrap().join("b/f");
    assert_eq!(fs::read(image.root().join(seen)).unwrap(), b"f");
    for path in ["a/f", "d/f", "e", "h/f", "i"] {
        assert_eq!(image.read(path), b"f", "{path}");
    }
}

#[test]
fn links_of_the_image_lead_where_a_program_in_it_would_go() {
    let context = Tree::new().file("tool", "tool");
    let image = Tree::new()
        .dir("usr/bin")
        .link("bin", "/usr/bin")
        .link("var/run", "/run")
        .link("a", "b")
        .link("b", "a");
    context
        .copy(&taking(["tool"], "/bin/"), ROOT, &image)
        .unwrap();
    assert_eq!(image.read("usr/bin/tool"), b"tool");
    // What a dangling link on the way lacks is created.
    context
        .copy(&taking(["tool"], "/var/run/x/"), ROOT, &image)
        .unwrap();
    assert_eq!(image.read("run/x/tool"), b"tool");
    let error = context
        .copy(&taking(["tool"], "/a/x"), ROOT, &image)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"cannot copy to "/a": too many symbolic links on the way in the image"#
    );
}

#[test]
fn a_file_on_the_way_to_the_destination_is_told() {
    let context = Tree::new().file("f", "f");
    let image = Tree::new().file("etc/passwd", "root");
    let error = context
        .copy(&taking(["f"], "/etc/passwd/x/"), ROOT, &image)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"cannot copy to "/etc/passwd/x/": "/etc/passwd" is not a directory in the image"#
    );
    assert_eq!(image.read("etc/passwd"), b"root");
}

/// Directories so deep that no path reaches them, removed again without recursion.
struct Deep<'a>(&'a Tree);

impl<'a> Deep<'a> {
    fn new(tree: &'a Tree, depth: usize) -> Self {
        let guard = Self(tree);
        let mut dir: OwnedFd = openat(
            CWD,
            tree.root(),
            OFlags::DIRECTORY | OFlags::RDONLY,
            Mode::empty(),
        )
        .unwrap();
        for _ in 0..depth {
            mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).unwrap();
            dir = openat(&dir, "d", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        }
        guard
    }
}

impl Drop for Deep<'_> {
    fn drop(&mut self) {
        let (top, aside) = (self.0.at("d"), self.0.at("aside"));
        while fs::rename(top.join("d"), &aside).is_ok() {
            fs::remove_dir(&top).unwrap();
            fs::rename(&aside, &top).unwrap();
        }
    }
}

#[test]
fn ten_thousand_nested_directories_are_refused_and_a_thousand_copied() {
    let context = Tree::new();
    let deep = Deep::new(&context, 10_000);
    let error = context.manifest(".").unwrap_err();
    assert!(
        error.starts_with("Path of more than 4095 bytes in source directory: \"d/d/"),
        "{error}"
    );
    drop(deep);

    let context = Tree::new();
    let _deep = Deep::new(&context, 1_900);
    let image = Tree::new();
    let _copied = Deep(&image);
    context.copy(&taking(["."], "/"), ROOT, &image).unwrap();
    assert!(image.exists(vec!["d"; 1_900].join("/")));
}

#[test]
fn names_of_any_bytes_arrive() {
    let names: [&[u8]; 5] = [
        b"a b",
        b"line\nfeed",
        b"\xff\xfe",
        b"-rf",
        b"tab\t\"quote\\",
    ];
    let mut context = Tree::new();
    for name in names {
        context = context.file(name, name);
    }
    let image = Tree::new();
    let dst = b"/\xfe \n/";
    context.copy(&taking(["."], dst), ROOT, &image).unwrap();
    for name in names {
        let path = [&dst[1..], name].concat();
        assert_eq!(image.read(path), name);
    }
    assert_eq!(context.manifest("-rf"), Ok(file("-rf", "-rf")));
}
