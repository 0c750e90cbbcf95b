//! Requests that cannot succeed: each gets a sentence, and no files.

use ocluster_git_context::Cause;

use super::servers::{Daemon, Http};
use super::sources::Source;
use super::workshop::Workshop;

const NOWHERE: &str = "0123456789abcdef0123456789abcdef01234567";

#[tokio::test]
async fn urls_of_other_schemes_are_refused_before_anything_is_started() {
    let workshop = Workshop::new();
    for (url, expected) in [
        ("ftp://x/y", "Unsupported scheme \"ftp\" in URL ftp://x/y"),
        (
            "ssh://git@h/y",
            "Unsupported scheme \"ssh\" in URL ssh://h/y",
        ),
        (
            "file:///etc",
            "Unsupported scheme \"file\" in URL file:///etc",
        ),
        ("/etc", "Missing scheme in URL /etc"),
    ] {
        let outcome = workshop.prepare(url, &[NOWHERE]).await;
        assert_eq!(outcome.failure(), expected);
        assert_eq!(outcome.result.unwrap_err().cause(), Cause::Request);
    }
    assert!(!workshop.cache().exists());
}

#[tokio::test]
async fn a_commit_must_be_a_whole_hash() {
    let workshop = Workshop::new();
    let outcome = workshop.prepare("git://h/x", &["main"]).await;
    assert_eq!(
        outcome.failure(),
        "Bad commit hash \"main\": expected 40 hexadecimal digits"
    );
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_named() {
    let workshop = Workshop::new();
    let daemon = Daemon::serve(&workshop.served());
    let http = Http::serve(&workshop.served());
    for url in [daemon.url("missing"), http.url("missing")] {
        let outcome = workshop.prepare(&url, &[NOWHERE]).await;
        let failure = outcome.failure();
        assert!(
            failure.starts_with(&format!("Repository {url} not found: ")),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_the_networks_fault() {
    let workshop = Workshop::new();
    // Port 1 on this host: nobody listens.
    let outcome = workshop.prepare("git://127.0.0.1:1/x", &[NOWHERE]).await;
    let failure = outcome.failure();
    assert!(
        failure.starts_with("Failed to fetch from git://127.0.0.1:1/x: "),
        "{failure}"
    );
    assert_eq!(outcome.result.unwrap_err().cause(), Cause::Server);
}

#[tokio::test]
async fn https_is_spoken_and_its_failures_are_told() {
    let workshop = Workshop::new();
    let server = Http::serve(&workshop.served());
    // A server that speaks plain HTTP where TLS is expected.
    let url = server.url("x").replace("http:", "https:");
    let outcome = workshop.prepare(&url, &[NOWHERE]).await;
    let failure = outcome.failure();
    assert!(
        failure.starts_with(&format!("Failed to fetch from {url}: SSL error")),
        "{failure}"
    );
}

#[tokio::test]
async fn a_commit_that_is_not_there_is_named_with_its_repository() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let daemon = Daemon::serve(&workshop.served());
    let http = Http::serve(&workshop.served());
    for url in [daemon.url("repo"), http.url("repo")] {
        let outcome = workshop.prepare(&url, &[&commit, NOWHERE]).await;
        assert_eq!(
            outcome.failure(),
            format!(
                "Commit {NOWHERE} not found in {url}: it is on no branch and no pull or merge request there"
            )
        );
        // What was there has been fetched all the same.
        assert_eq!(workshop.prepare(&url, &[&commit]).await.commit(), commit);
    }
}

#[tokio::test]
async fn a_missing_commit_is_missing_too_where_bare_hashes_are_served() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    source.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    source.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    let failure = workshop
        .prepare(&server.url("repo"), &[NOWHERE])
        .await
        .failure();
    assert!(
        failure.starts_with(&format!("Commit {NOWHERE} not found in ")),
        "{failure}"
    );
}

#[tokio::test]
async fn a_repository_without_commits_has_none_to_give() {
    let workshop = Workshop::new();
    Source::new(&workshop.served(), "empty");
    let daemon = Daemon::serve(&workshop.served());
    let http = Http::serve(&workshop.served());
    for url in [daemon.url("empty"), http.url("empty")] {
        let failure = workshop.prepare(&url, &[NOWHERE]).await.failure();
        assert!(
            failure.starts_with(&format!("Commit {NOWHERE} not found in ")),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_hash_of_a_tree_is_not_a_commit() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let tree = source.git(&["rev-parse", "HEAD^{tree}"]);
    let server = Daemon::serve(&workshop.served());
    let url = server.url("repo");
    workshop.prepare(&url, &[&commit]).await.commit();
    let outcome = workshop.prepare(&url, &[&tree]).await;
    assert_eq!(
        outcome.failure(),
        format!("{tree} in {url} is a tree, not a commit")
    );
    assert!(!outcome.log.contains("corrupted"), "{}", outcome.log);
}

#[tokio::test]
async fn a_server_that_wants_a_login_is_told_apart() {
    let workshop = Workshop::new();
    let server = Http::serve(&workshop.served());
    let url = server.url("private/x");
    let outcome = workshop.prepare(&url, &[NOWHERE]).await;
    assert_eq!(
        outcome.failure(),
        format!(
            "Repository {url} asks for a login or does not exist; workers read public repositories only"
        )
    );
}

#[tokio::test]
async fn a_password_in_a_url_is_in_no_log_and_no_error() {
    let workshop = Workshop::new();
    let server = Http::serve(&workshop.served());
    for name in ["private/x", "missing"] {
        let url = server.url(name).replace("127.0.0.1", "me:s3cret@127.0.0.1");
        let outcome = workshop.prepare(&url, &[NOWHERE]).await;
        let told = format!("{}{}{:?}", outcome.failure(), outcome.log, outcome.result);
        assert!(!told.contains("s3cret") && !told.contains("me:"), "{told}");
    }
    let names = std::fs::read_dir(workshop.cache()).unwrap();
    for name in names {
        assert!(
            !name
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("s3cret")
        );
    }
}

#[tokio::test]
async fn a_tree_that_holds_a_git_directory_is_not_written() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "evil");
    source.commit_file("hook", "#!/bin/sh\n");
    let blob = source.git(&["rev-parse", "HEAD:hook"]);
    for name in [".git", ".GIT", "git~1", ".git ", "..", "."] {
        let commit = commit_of_raw_tree(&source, name, &blob);
        let server = Daemon::serve(&workshop.served());
        let outcome = workshop.prepare(&server.url("evil"), &[&commit]).await;
        let failure = outcome.failure();
        assert!(
            failure.contains(&commit) || failure.contains("Refused"),
            "{name}: {failure}"
        );
    }
}

/// A commit whose tree holds a directory of any name, which no decent git would make.
fn commit_of_raw_tree(source: &Source, name: &str, blob: &str) -> String {
    let inner = hash_object(source, &entry("100644", "config", blob));
    let outer = hash_object(source, &entry("40000", name, &inner));
    let commit = source.git(&["commit-tree", "-m", "evil", &outer]);
    source.git(&["update-ref", "refs/heads/evil", &commit]);
    commit
}

fn entry(mode: &str, name: &str, hash: &str) -> Vec<u8> {
    let mut entry = format!("{mode} {name}\0").into_bytes();
    let pairs = hash.as_bytes().chunks(2);
    entry.extend(
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()),
    );
    entry
}

fn hash_object(source: &Source, tree: &[u8]) -> String {
    let file = source.path.join(".git/raw-tree");
    std::fs::write(&file, tree).unwrap();
    source.git(&[
        "hash-object",
        "--literally",
        "-t",
        "tree",
        "-w",
        ".git/raw-tree",
    ])
}
