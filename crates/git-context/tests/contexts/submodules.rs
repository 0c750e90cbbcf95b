//! Submodules: relative, nested, with and without `.git`, and hostile ones.

use std::fs;
use std::path::Path;

use super::servers::{Daemon, Http};
use super::sources::{Source, git, listing, try_git};
use super::workshop::Workshop;

/// Adds `lib` to `parent` at `path` with this URL, without asking anybody whether that works.
fn add(parent: &Source, name: &str, path: &str, url: &str, commit: &str) {
    let set = |key: &str, value: &str| {
        parent.git(&[
            "config",
            "-f",
            ".gitmodules",
            &format!("submodule.{name}.{key}"),
            value,
        ]);
    };
    set("path", path);
    set("url", url);
    parent.git(&["add", ".gitmodules"]);
    parent.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{commit},{path}"),
    ]);
}

fn commit(source: &Source) -> String {
    source.git(&["commit", "-q", "-m", "with submodules"]);
    source.head()
}

/// `main` with `lib` at `vendor/lib`, which has `deep` at `sub`; all URLs relative.
fn nested(root: &Path) -> (Source, String) {
    let deep = Source::new(root, "group/deep");
    let deep_commit = deep.commit_file("d", "deep");
    let lib = Source::new(root, "group/lib");
    lib.commit_file("l", "lib");
    add(&lib, "deep", "sub", "../deep", &deep_commit);
    let lib_commit = commit(&lib);
    // Newer than what `main` points to.
    lib.git(&["commit", "-q", "--allow-empty", "-m", "newer"]);
    let main = Source::new(root, "group/main");
    main.commit_file("m", "main");
    add(&main, "lib", "vendor/lib", "../lib", &lib_commit);
    let main_commit = commit(&main);
    (main, main_commit)
}

#[tokio::test]
async fn nested_submodules_with_relative_urls_come_along() {
    let workshop = Workshop::new();
    let (_main, commit) = nested(&workshop.served());
    let server = Http::serve(&workshop.served());
    let url = server.url("group/main");
    let outcome = workshop.prepare(&url, &[&commit]).await;
    assert_eq!(outcome.commit(), commit);
    let clone = workshop.dir.path().join("clone");
    git(
        workshop.dir.path(),
        &["clone", "-q", "--recursive", &url, "clone"],
    );
    let expected: Vec<String> = listing(&clone)
        .into_iter()
        .filter(|line| !line.split(' ').next().unwrap().ends_with("/.git"))
        .collect();
    assert_eq!(listing(&outcome.context), expected);
    assert_eq!(outcome.text("vendor/lib/sub/d"), "deep");
    assert_eq!(workshop.mirrors().len(), 3, "one mirror each");
    assert!(
        outcome
            .log
            .contains("Submodule path 'vendor/lib/sub': checked out"),
        "{}",
        outcome.log
    );
    let again = workshop.prepare(&url, &[&commit]).await;
    assert!(!again.fetched());
    assert_eq!(listing(&again.context), expected);
}

#[tokio::test]
async fn with_the_git_directory_submodules_are_repositories_too() {
    let workshop = Workshop::new();
    let (_main, commit) = nested(&workshop.served());
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare_with_git(&server.url("group/main"), &[&commit])
        .await;
    outcome.commit();
    let moved = workshop.dir.path().join("moved");
    fs::rename(&outcome.context, &moved).unwrap();
    fs::remove_dir_all(workshop.cache()).unwrap();
    assert_eq!(git(&moved, &["status", "--porcelain"]), "");
    let status = git(&moved, &["submodule", "status", "--recursive"]);
    let lines: Vec<&str> = status.lines().collect();
    assert_eq!(lines.len(), 2, "{status}");
    assert!(
        lines.iter().all(|line| !line.starts_with(['-', '+'])),
        "{status}"
    );
    let top = git(
        &moved.join("vendor/lib/sub"),
        &["rev-parse", "--show-toplevel"],
    );
    assert_eq!(
        Path::new(&top),
        moved.join("vendor/lib/sub").canonicalize().unwrap()
    );
    assert_eq!(
        git(&moved.join("vendor/lib"), &["status", "--porcelain"]),
        ""
    );
}

#[tokio::test]
async fn a_submodule_that_is_switched_off_stays_an_empty_directory() {
    let workshop = Workshop::new();
    let main = Source::new(&workshop.served(), "main");
    add(&main, "x", "x", "ssh://h/x", &"1".repeat(40));
    main.git(&["config", "-f", ".gitmodules", "submodule.x.update", "none"]);
    main.git(&["add", ".gitmodules"]);
    let commit = commit(&main);
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop.prepare(&server.url("main"), &[&commit]).await;
    outcome.commit();
    assert!(super::workshop::is_empty(&outcome.context.join("x")));
}

#[tokio::test]
async fn submodules_from_local_files_or_other_schemes_are_refused() {
    let workshop = Workshop::new();
    let lib = Source::new(&workshop.served(), "lib");
    let lib_commit = lib.commit_file("a", "1");
    let file_url = format!("file://{}", lib.path.display());
    let local = lib.path.display().to_string();
    let server = Daemon::serve(&workshop.served());
    for (at, (url, expected)) in [
        (
            file_url.clone(),
            format!("Submodule \"sub\": Unsupported scheme \"file\" in URL {file_url}"),
        ),
        (
            local.clone(),
            format!("Submodule \"sub\": Missing scheme in URL {local}"),
        ),
        (
            "git@h:x".to_owned(),
            "Submodule \"sub\": Missing scheme in URL git@h:x".to_owned(),
        ),
        (
            "ext::sh -c touch% x".to_owned(),
            "Submodule \"sub\": Unsupported scheme \"ext\" in URL ext::sh -c touch% x".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("main{at}");
        let main = Source::new(&workshop.served(), &name);
        add(&main, "sub", "sub", &url, &lib_commit);
        let commit = commit(&main);
        let outcome = workshop.prepare(&server.url(&name), &[&commit]).await;
        assert_eq!(outcome.failure(), expected);
    }
}

#[tokio::test]
async fn a_submodule_commit_that_is_gone_is_named() {
    let workshop = Workshop::new();
    let lib = Source::new(&workshop.served(), "lib");
    lib.commit_file("a", "1");
    let gone = "1".repeat(40);
    let main = Source::new(&workshop.served(), "main");
    add(&main, "lib", "lib", "../lib", &gone);
    let commit = commit(&main);
    let server = Daemon::serve(&workshop.served());
    let failure = workshop
        .prepare(&server.url("main"), &[&commit])
        .await
        .failure();
    let expected = format!(
        "Submodule \"lib\": Commit {gone} not found in {}",
        server.url("lib")
    );
    assert!(failure.starts_with(&expected), "{failure}");
}

#[tokio::test]
async fn a_submodule_without_a_url_is_named() {
    let workshop = Workshop::new();
    let main = Source::new(&workshop.served(), "main");
    let cacheinfo = format!("160000,{},lost", "1".repeat(40));
    main.git(&["update-index", "--add", "--cacheinfo", &cacheinfo]);
    let commit = commit(&main);
    let server = Daemon::serve(&workshop.served());
    let failure = workshop
        .prepare(&server.url("main"), &[&commit])
        .await
        .failure();
    assert_eq!(failure, "No URL for submodule \"lost\" in .gitmodules");
}

#[tokio::test]
async fn names_and_paths_that_climb_out_are_refused() {
    let workshop = Workshop::new();
    let lib = Source::new(&workshop.served(), "lib");
    let lib_commit = lib.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    for (at, (name, path)) in [("../../hooks", "sub"), ("x", "../out"), ("x", "/out")]
        .iter()
        .enumerate()
    {
        let repository = format!("main{at}");
        let main = Source::new(&workshop.served(), &repository);
        add(&main, "good", "sub", "../lib", &lib_commit);
        main.write(
            ".gitmodules",
            &format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = ../lib\n"),
        );
        main.git(&["add", ".gitmodules"]);
        let commit = commit(&main);
        let outcome = workshop
            .prepare_with_git(&server.url(&repository), &[&commit])
            .await;
        let failure = outcome.failure();
        assert!(failure.ends_with(": refused"), "{failure}");
    }
    assert!(!workshop.dir.path().join("out").exists());
}

#[tokio::test]
async fn a_link_in_the_way_of_a_submodule_leads_nowhere() {
    let workshop = Workshop::new();
    let lib = Source::new(&workshop.served(), "lib");
    let lib_commit = lib.commit_file("a", "1");
    let main = Source::new(&workshop.served(), "main");
    let outside = workshop.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // A tree in which `x` is a link and a directory with a submodule at once, which only a hostile program makes.
    let target = main.path.join(".git/target");
    fs::write(&target, outside.display().to_string()).unwrap();
    let link = main.git(&["hash-object", "-w", ".git/target"]);
    main.write(
        ".gitmodules",
        "[submodule \"s\"]\n\tpath = x/s\n\turl = ../lib\n",
    );
    let modules = main.git(&["hash-object", "-w", ".gitmodules"]);
    let inner = raw_tree(&main, &[("160000", "s", &lib_commit)]);
    let outer = raw_tree(
        &main,
        &[
            ("100644", ".gitmodules", &modules),
            ("120000", "x", &link),
            ("40000", "x", &inner),
        ],
    );
    let commit = main.git(&["commit-tree", "-m", "evil", &outer]);
    main.git(&["update-ref", "refs/heads/main", &commit]);
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop.prepare(&server.url("main"), &[&commit]).await;
    assert!(
        super::workshop::is_empty(&outside),
        "{:?}",
        listing(&outside)
    );
    assert_eq!(
        outcome.failure(),
        "Refused to check out: \"x\" is in its directory twice"
    );
}

fn raw_tree(source: &Source, entries: &[(&str, &str, &str)]) -> String {
    let mut tree = Vec::new();
    for (mode, name, hash) in entries {
        tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        let pairs = hash.as_bytes().chunks(2);
        tree.extend(
            pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()),
        );
    }
    fs::write(source.path.join(".git/raw-tree"), &tree).unwrap();
    let output = try_git(
        &source.path,
        &[
            "hash-object",
            "--literally",
            "-t",
            "tree",
            "-w",
            ".git/raw-tree",
        ],
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
