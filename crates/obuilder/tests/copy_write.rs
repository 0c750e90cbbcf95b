//! What `copy` writes: modes, owners, times, what is in the way, and what must stay as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copy_support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use copy_support::{Tree, taking, without};
use tokio_util::sync::CancellationToken;

const USER: (u32, u32) = (1000, 1001);

/// A directory, a file and a link of [`USER`]'s.
const DIRECTORY: (u32, u32, u32) = (1000, 1001, 0o040_755);
const FILE: (u32, u32, u32) = (1000, 1001, 0o100_644);
const PROGRAM: (u32, u32, u32) = (1000, 1001, 0o100_755);
const LINK: (u32, u32, u32) = (1000, 1001, 0o120_777);

#[test]
fn a_tree_arrives_with_plain_modes_the_users_ownership_and_the_sources_times() {
    let context = Tree::new()
        .file("src/plain", "plain")
        .mode("src/plain", 0o6600)
        .file("src/program", "program")
        .mode("src/program", 0o4711)
        .link("src/link", "../../away")
        .file("src/sub/below", "below")
        .mode("src/sub", 0o2700)
        .mtime("src/plain", 1_000_000_000)
        .mtime("src/sub/below", 1_000_000_001)
        .mtime("src/sub", 1_000_000_002)
        .mtime("src", 1_000_000_003);
    let image = Tree::new();
    context
        .copy(&taking(["src"], "/opt/"), USER, &image)
        .unwrap();
    assert_eq!(image.read("opt/src/plain"), b"plain");
    assert_eq!(image.read("opt/src/program"), b"program");
    assert_eq!(image.read("opt/src/sub/below"), b"below");
    assert_eq!(image.facts("opt"), DIRECTORY);
    assert_eq!(image.facts("opt/src"), DIRECTORY);
    assert_eq!(image.facts("opt/src/sub"), DIRECTORY);
    assert_eq!(image.facts("opt/src/plain"), FILE);
    assert_eq!(image.facts("opt/src/sub/below"), FILE);
    assert_eq!(image.facts("opt/src/program"), PROGRAM);
    assert_eq!(image.facts("opt/src/link"), LINK);
    assert_eq!(
        fs::read_link(image.at("opt/src/link")).unwrap().as_os_str(),
        "../../away"
    );
    assert_eq!(image.seconds("opt/src/plain"), (1_000_000_000, 0));
    assert_eq!(image.seconds("opt/src/sub/below"), (1_000_000_001, 0));
    assert_eq!(image.seconds("opt/src/sub"), (1_000_000_002, 0));
    assert_eq!(image.seconds("opt/src"), (1_000_000_003, 0));
    assert_eq!(
        image.seconds("opt/src/link").0,
        context.seconds("src/link").0
    );
}

#[test]
fn sources_go_where_obuilder_puts_them() {
    let context = Tree::new()
        .file("a/b/f", "f")
        .link("a/l", "b")
        .file("g", "g");
    let image = Tree::new();
    let copy = |src: &[&str], dst: &str| context.copy(&taking(src, dst), (0, 0), &image).unwrap();
    // Into a directory: by their last names; the top's content directly.
    copy(&["a/b", "a/l", "a/b/f", "g"], "/into/");
    assert_eq!(image.read("into/b/f"), b"f");
    assert_eq!(image.read("into/f"), b"f");
    assert_eq!(image.read("into/g"), b"g");
    assert!(image.at("into/l").is_symlink());
    copy(&["."], "/top/");
    assert_eq!(image.read("top/a/b/f"), b"f");
    // One item becomes the destination itself.
    copy(&["a/b/f"], "/one/name");
    assert_eq!(image.read("one/name"), b"f");
    copy(&["a"], "/two/tree");
    assert_eq!(image.read("two/tree/b/f"), b"f");
    copy(&["."], "/three/whole");
    assert_eq!(image.read("three/whole/g"), b"g");
    copy(&["."], "/.");
    assert_eq!(image.read("g"), b"g");
}

#[test]
fn copying_into_tmp_as_a_user_leaves_tmp_as_it_was() {
    let context = Tree::new().file("f", "f");
    let image = Tree::new().dir("tmp").mode("tmp", 0o1777).mtime("", 5);
    let top = image.facts("");
    context
        .copy(&taking(["f"], "/tmp/sub/deep/"), USER, &image)
        .unwrap();
    assert_eq!(image.facts("tmp"), (0, 0, 0o041_777));
    assert_eq!(image.facts(""), top);
    assert_eq!(image.seconds("").0, 5);
    assert_eq!(image.facts("tmp/sub"), DIRECTORY);
    assert_eq!(image.facts("tmp/sub/deep"), DIRECTORY);
    assert_eq!(image.facts("tmp/sub/deep/f"), FILE);
    // What is missing above a single item is root's.
    context
        .copy(&taking(["f"], "/var/lib/name"), USER, &image)
        .unwrap();
    assert_eq!(image.facts("var"), (0, 0, 0o040_755));
    assert_eq!(image.facts("var/lib"), (0, 0, 0o040_755));
    assert_eq!(image.facts("var/lib/name"), FILE);
}

#[test]
fn directories_are_merged_into_those_that_are_there() {
    let context = Tree::new()
        .file("usr/bin/new", "new")
        .file("etc/conf", "new");
    let image = Tree::new()
        .file("usr/bin/old", "old")
        .mode("usr/bin", 0o2711)
        .owner("usr/bin", 3, 4)
        .file("etc/conf", "old")
        .mode("etc/conf", 0o600);
    context.copy(&taking(["."], "/"), USER, &image).unwrap();
    assert_eq!(image.read("usr/bin/old"), b"old");
    assert_eq!(image.read("usr/bin/new"), b"new");
    assert_eq!(image.facts("usr/bin"), (3, 4, 0o042_711));
    // Not even the group of the directory is inherited.
    assert_eq!(image.facts("usr/bin/new"), FILE);
    assert_eq!(image.read("etc/conf"), b"new");
    assert_eq!(image.facts("etc/conf"), FILE);
}

#[test]
fn new_directories_do_not_inherit_the_set_group_bit() {
    let context = Tree::new().file("d/f", "f");
    let image = Tree::new()
        .dir("shared")
        .owner("shared", 0, 50)
        .mode("shared", 0o2775);
    context
        .copy(&taking(["d"], "/shared/x/"), USER, &image)
        .unwrap();
    assert_eq!(image.facts("shared/x"), DIRECTORY);
    assert_eq!(image.facts("shared/x/d"), DIRECTORY);
    assert_eq!(image.facts("shared"), (0, 50, 0o042_775));
}

#[test]
fn a_file_is_replaced_and_never_written_to() {
    let context = Tree::new().file("f", "new");
    let image = Tree::new().file("f", "old").link("l", "f");
    fs::hard_link(image.at("f"), image.at("same")).unwrap();
    context.copy(&taking(["f"], "/f"), USER, &image).unwrap();
    assert_eq!(image.read("f"), b"new");
    assert_eq!(image.read("same"), b"old");
    assert_eq!(image.at("same").metadata().unwrap().nlink(), 1);
    // Over a link, the link itself is replaced.
    context.copy(&taking(["f"], "/l"), USER, &image).unwrap();
    assert_eq!(image.facts("l"), FILE);
    assert_eq!(image.read("l"), b"new");
}

#[test]
fn empty_directories_give_way_to_files_and_full_ones_do_not() {
    let context = Tree::new().file("f", "f").link("l", "x");
    let image = Tree::new()
        .dir("a")
        .dir("b")
        .file("full/x", "x")
        .mode("full", 0o700);
    context.copy(&taking(["f"], "/a"), USER, &image).unwrap();
    assert_eq!(image.facts("a"), FILE);
    context.copy(&taking(["l"], "/b"), USER, &image).unwrap();
    assert_eq!(image.facts("b"), LINK);
    for src in ["f", "l"] {
        let error = context
            .copy(&taking([src], "/full"), USER, &image)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cannot copy \"{src}\" to \"/full\": that is a directory; to copy into it, end the destination with a slash"
            )
        );
    }
    assert_eq!(image.facts("full"), (0, 0, 0o040_700));
    let error = context
        .copy(&taking(["f"], "/."), USER, &image)
        .unwrap_err();
    assert!(error.to_string().contains("that is a directory"), "{error}");
}

#[test]
fn a_directory_takes_the_place_of_a_file_or_of_a_link_to_nothing() {
    let context = Tree::new().file("d/f", "f");
    let image = Tree::new().file("file/d", "old").link("link/d", "nothing");
    for dst in ["/file/", "/link/"] {
        context.copy(&taking(["d"], dst), USER, &image).unwrap();
    }
    assert_eq!(image.facts("file/d"), DIRECTORY);
    assert_eq!(image.read("file/d/f"), b"f");
    assert_eq!(image.facts("link/d"), DIRECTORY);
    assert_eq!(image.read("link/d/f"), b"f");
}

#[test]
fn a_directory_is_merged_into_the_one_behind_a_link() {
    let context = Tree::new().file("bin/tool", "tool");
    let image = Tree::new()
        .file("usr/bin/sh", "sh")
        .link("bin", "usr/bin")
        .link("abs/bin", "/usr/bin");
    context.copy(&taking(["."], "/"), USER, &image).unwrap();
    assert_eq!(image.read("usr/bin/tool"), b"tool");
    assert_eq!(image.read("usr/bin/sh"), b"sh");
    assert!(image.at("bin").is_symlink());
    context.copy(&taking(["."], "/abs/"), USER, &image).unwrap();
    assert!(image.at("abs/bin").is_symlink());
}

#[test]
fn later_sources_win_and_equal_directories_are_merged() {
    let context = Tree::new()
        .file("1/f", "one")
        .file("2/f", "two")
        .file("1/d/a", "a")
        .file("2/d/b", "b");
    let image = Tree::new();
    context
        .copy(&taking(["1/f", "2/f", "1/d", "2/d"], "/x/"), USER, &image)
        .unwrap();
    assert_eq!(image.read("x/f"), b"two");
    assert_eq!(image.read("x/d/a"), b"a");
    assert_eq!(image.read("x/d/b"), b"b");
}

/// An image without `tar`, or anything else.
#[test]
fn an_image_without_any_program_can_be_copied_into() {
    let context = Tree::new()
        .file("app", "#!")
        .mode("app", 0o755)
        .file("d/f", "f");
    let image = Tree::new();
    context.copy(&taking(["."], "/"), USER, &image).unwrap();
    assert_eq!(image.facts("app"), PROGRAM);
    assert_eq!(image.facts("d"), DIRECTORY);
}

#[test]
fn long_names_arrive() {
    let mut context = Tree::new();
    let names = [80, 160, 204, 255].map(|length| "n".repeat(length));
    for name in &names {
        context = context.file(format!("{name}/{name}"), name);
    }
    let image = Tree::new();
    context
        .copy(&taking(["."], "/long/"), USER, &image)
        .unwrap();
    for name in &names {
        assert_eq!(image.read(format!("long/{name}/{name}")), name.as_bytes());
    }
    context
        .copy(&taking([&names[2]], format!("/{}", names[2])), USER, &image)
        .unwrap();
    let error = context
        .copy(
            &taking(["."], format!("/{}/", "n".repeat(256))),
            USER,
            &image,
        )
        .unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[test]
fn excluded_names_do_not_arrive() {
    let context = Tree::new()
        .file(".git/HEAD", "h")
        .file("d/.git/HEAD", "h")
        .file("d/f", "f");
    let image = Tree::new();
    let copy = without(taking(["."], "/x/"), &[".git"]);
    context.copy(&copy, USER, &image).unwrap();
    assert!(image.exists("x/d/f"));
    assert!(!image.exists("x/.git") && !image.exists("x/d/.git"));
}

#[test]
fn what_changed_since_it_was_scanned_is_refused() {
    type Change = fn(&Tree);
    let changes: [(&str, Change); 6] = [
        ("d/f", |tree| fs::write(tree.at("d/f"), "other").unwrap()),
        ("d/f", |tree| fs::remove_file(tree.at("d/f")).unwrap()),
        ("d/f", |tree| {
            fs::remove_file(tree.at("d/f")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", tree.at("d/f")).unwrap();
        }),
        ("d/l", |tree| {
            fs::remove_file(tree.at("d/l")).unwrap();
            std::os::unix::fs::symlink("elsewhere", tree.at("d/l")).unwrap();
        }),
        ("d", |tree| fs::remove_dir_all(tree.at("d")).unwrap()),
        ("d", |tree| {
            fs::rename(tree.at("d"), tree.at("e")).unwrap();
            std::os::unix::fs::symlink("e", tree.at("d")).unwrap();
        }),
    ];
    for (name, change) in changes {
        let context = Tree::new().file("d/f", "same!").link("d/l", "x");
        let plan = context.scan(&taking(["d"], "/x/")).unwrap();
        change(&context);
        let error = context.write(&plan, &Tree::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("\"{name}\" changed while it was copied")
        );
    }
}

#[test]
fn a_cancelled_copy_ends() {
    let context = Tree::new().file("d/f", "f");
    let plan = context.scan(&taking(["d"], "/x/")).unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let root = ocluster_obuilder::copy::open_root(context.root()).unwrap();
    let root = std::os::fd::AsFd::as_fd(&root);
    let image = Tree::new();
    let target = ocluster_obuilder::copy::open_root(image.root()).unwrap();
    let target = std::os::fd::AsFd::as_fd(&target);
    let copy = taking(["d"], "/x/");
    let answer = ocluster_obuilder::copy::scan(root, &copy, "/".into(), &cancel);
    assert_eq!(answer.unwrap_err().to_string(), "cancelled");
    let answer = ocluster_obuilder::copy::write(root, target, &plan, USER, &cancel);
    assert_eq!(answer.unwrap_err().to_string(), "cancelled");
    assert!(!image.exists("x/d/f"));
}

/// A figure to read rather than a limit: the limit only catches what is absurd.
#[test]
#[expect(clippy::print_stdout, reason = "the figure is what the test is for")]
fn ten_thousand_files_are_copied_in_seconds() {
    let mut context = Tree::new();
    for dir in 0..100 {
        for file in 0..100 {
            context = context.file(format!("d{dir}/f{file}"), format!("{dir} {file}"));
        }
    }
    let image = Tree::new();
    let start = Instant::now();
    let plan = context.scan(&taking(["."], "/x/")).unwrap();
    let scanned = start.elapsed();
    context.write(&plan, &image).unwrap();
    let written = start.elapsed() - scanned;
    println!("10,000 files: scanned in {scanned:?}, written in {written:?}");
    assert_eq!(image.read("x/d99/f99"), b"99 99");
    assert!(start.elapsed().as_secs() < 60);
}
