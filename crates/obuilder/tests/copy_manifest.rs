//! What `copy` takes: OBuilder's rules for sources, its messages, and the ids that follow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copy_support;

use copy_support::{Tree, dir, file, link, sha256, taking, without};
use ocluster_obuilder::spec::{CopyKey, Manifest, StepId, User};

fn context() -> Tree {
    Tree::new()
        .file("f1", "hello")
        .file("sub/f2", "world")
        .file("sub/deep/f3", "!")
        .link("link", "f1")
        .link("dirlink", "sub")
        .link("sub/up", "../../../etc/passwd")
}

#[test]
fn a_file_has_one_name_however_it_is_written() {
    let tree = context();
    for src in ["f1", "./f1", "/f1", "//f1", "/./f1"] {
        assert_eq!(tree.manifest(src), Ok(file("f1", "hello")), "{src}");
    }
}

#[test]
fn nested_files_and_directories_keep_their_path() {
    let tree = context();
    assert_eq!(tree.manifest("sub/deep/f3"), Ok(file("sub/deep/f3", "!")));
    let deep = dir("sub/deep", [file("sub/deep/f3", "!")]);
    for src in ["sub/deep", "./sub//deep/", "/sub/./deep/."] {
        assert_eq!(tree.manifest(src), Ok(deep.clone()), "{src}");
    }
}

#[test]
fn a_whole_tree_is_sorted_by_the_bytes_of_names() {
    let tree = Tree::new()
        .file("b", "1")
        .file("a-", "2")
        .file("a/x", "3")
        .file("B", "4")
        .file([0xff], "5");
    let expected = dir(
        "",
        [
            file("B", "4"),
            dir("a", [file("a/x", "3")]),
            file("a-", "2"),
            file("b", "1"),
            file([0xff], "5"),
        ],
    );
    for src in [".", "", "/", "./."] {
        assert_eq!(tree.manifest(src), Ok(expected.clone()), "{src}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let tree = context();
    for (src, text) in [
        ("f2", r#"Source path "f2" not found"#),
        ("sub/nothing/x", r#"Source path "sub/nothing/x" not found"#),
        ("a\0b", r#"Source path "a\000b" not found"#),
    ] {
        assert_eq!(tree.manifest(src), Err(text.to_owned()));
    }
    let long = "n".repeat(300);
    let text = format!("Source path \"{long}\" not found");
    assert_eq!(tree.manifest(&long), Err(text));
}

#[test]
fn nothing_is_below_a_file_or_a_link() {
    let tree = context();
    for (src, text) in [
        ("f1/x", r#"Not a directory: f1 (in "f1/x")"#),
        ("sub/f2/x", r#"Not a directory: sub/f2 (in "sub/f2/x")"#),
        ("f1/", r#"Not a directory: f1 (in "f1/")"#),
        (
            "dirlink/f2",
            r#"Not a regular file: dirlink (in "dirlink/f2")"#,
        ),
        ("dirlink/", r#"Not a regular file: dirlink (in "dirlink/")"#),
    ] {
        assert_eq!(tree.manifest(src), Err(text.to_owned()));
    }
}

#[test]
fn parents_are_refused_wherever_they_are_named() {
    let tree = context();
    for src in ["../f1", "..", "sub/../f1", "/../f1", "sub/.."] {
        let text = format!("Can't use .. in source paths! (in \"{src}\")");
        assert_eq!(tree.manifest(src), Err(text));
    }
    // Names that only look like it.
    let tree = Tree::new().file("..a", "1").file("...", "2");
    assert_eq!(tree.manifest("..a"), Ok(file("..a", "1")));
    assert_eq!(tree.manifest("..."), Ok(file("...", "2")));
}

#[test]
fn links_are_taken_as_links_wherever_they_lead() {
    let tree = context();
    assert_eq!(tree.manifest("link"), Ok(link("link", "f1")));
    assert_eq!(tree.manifest("dirlink"), Ok(link("dirlink", "sub")));
    let expected = dir(
        "sub",
        [
            dir("sub/deep", [file("sub/deep/f3", "!")]),
            file("sub/f2", "world"),
            link("sub/up", "../../../etc/passwd"),
        ],
    );
    assert_eq!(tree.manifest("sub"), Ok(expected));
}

#[test]
fn excluded_names_are_left_out_at_every_level_but_not_as_sources() {
    let tree = Tree::new()
        .file(".git/config", "c")
        .file("src/.git/config", "c")
        .file("src/main", "m")
        .file("_build", "b");
    let copy = without(taking([".", "_build", ".git"], "/d/"), &[".git", "_build"]);
    assert_eq!(
        tree.scan(&copy).unwrap().items,
        [
            dir("", [dir("src", [file("src/main", "m")])]),
            file("_build", "b"),
            dir(".git", [file(".git/config", "c")]),
        ]
    );
    // Names are compared, not paths.
    let copy = without(taking(["src"], "/d/"), &["src/main", "src"]);
    assert_eq!(
        tree.scan(&copy).unwrap().items,
        [dir(
            "src",
            [
                dir("src/.git", [file("src/.git/config", "c")]),
                file("src/main", "m"),
            ]
        )]
    );
}

#[test]
fn the_destination_decides_what_sources_may_be() {
    let tree = context();
    let text = |copy| tree.scan(&copy).unwrap_err().to_string();
    assert_eq!(
        text(taking(<[&str; 0]>::default(), "/d/")),
        "No source items for copy!"
    );
    assert_eq!(
        text(taking(["f1", "sub"], "/d")),
        "When copying multiple items, the destination must end with '/'"
    );
    // A wrong source is told first.
    assert_eq!(
        text(taking(["f1", "nope"], "/d")),
        r#"Source path "nope" not found"#
    );
    assert!(text(taking(["f1"], "/d\0")).contains("zero byte"));
    for (workdir, dst, joined, into) in [
        ("/", "x", "/x", false),
        ("/src", "./", "/src/./", true),
        ("/src", "", "/src/", true),
        ("/src", ".", "/src/.", false),
        ("/src/", "/y/", "/y/", true),
    ] {
        let plan = tree.scan_in(workdir, &taking(["f1"], dst)).unwrap();
        assert_eq!(plan.dst, joined);
        assert_eq!(plan.into_directory, into);
    }
}

#[test]
fn an_owner_that_no_file_can_have_is_refused() {
    let tree = context();
    let error = tree
        .copy(&taking(["f1"], "/d"), (u32::MAX, 0), &Tree::new())
        .unwrap_err();
    assert!(error.to_string().contains("4294967295"), "{error}");
}

fn id_of(tree: &Tree, src: &str, dst: &str) -> StepId {
    let plan = tree.scan(&taking([src], dst)).unwrap();
    CopyKey {
        base: StepId::of_base(b"busybox"),
        user: &User::Unix { uid: 0, gid: 0 },
        items: &plan.items,
        dst: &plan.dst,
        into_directory: plan.into_directory,
    }
    .id()
}

/// The forms are those of the golden vectors; only the files' hashes differ.
#[test]
fn ids_are_those_of_obuilder() {
    let tree = Tree::new().file("dir/file", "content").link("l", "/root");
    let hash: String = sha256("content")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let base = StepId::of_base(b"busybox");
    assert_eq!(
        base.to_string(),
        "9d75f0d7c398df565d7ac04c6819b62d6d8f9560f5eb4672596ecd8f7e96ae91"
    );
    let key = |op: String| {
        let text = format!("((base {base})(user((uid 0)(gid 0)))(op({op})))");
        StepId::from_bytes(sha256(text))
    };
    assert_eq!(
        id_of(&tree, "dir/file", "/src/x y"),
        key(format!(r#"Copy_item((File(dir/file {hash}))"/src/x y")"#))
    );
    assert_eq!(
        id_of(&tree, ".", "/src/"),
        key(format!(
            r#"Copy_items(((Dir(""((Dir(dir((File(dir/file {hash})))))(Symlink(l /root))))))/src/)"#
        ))
    );
}

#[test]
fn making_a_file_executable_makes_another_id() {
    let tree = Tree::new()
        .file("run.sh", "#!/bin/sh\n")
        .mode("run.sh", 0o644);
    let plain = id_of(&tree, ".", "/x/");
    let tree = tree.mode("run.sh", 0o755);
    let executable = id_of(&tree, ".", "/x/");
    assert_ne!(plain, executable);
    // Other bits are in no id, as in OBuilder, and one execute bit is as good as three.
    let tree = tree.mode("run.sh", 0o610);
    assert_eq!(executable, id_of(&tree, ".", "/x/"));
    let tree = tree.mode("run.sh", 0o600);
    assert_eq!(plain, id_of(&tree, ".", "/x/"));
}

#[test]
fn names_of_any_bytes_are_taken() {
    let names: [&[u8]; 5] = [
        b"a b",
        b"line\nfeed",
        b"\xff\xfe",
        b"-rf",
        b"tab\t\"quote\\",
    ];
    let mut tree = Tree::new();
    for name in names {
        tree = tree.file(name, name);
    }
    for name in names {
        assert_eq!(tree.manifest(name), Ok(file(name, name)));
    }
    let Ok(Manifest::Dir { entries, .. }) = tree.manifest(".") else {
        panic!("not a directory")
    };
    assert_eq!(entries.len(), names.len());
}
