//! What is fetched, from which servers, and whether the files are what git would write.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::servers::{Daemon, Http};
use super::sources::{Noise, Source, git, listing, oracle, try_git};
use super::workshop::Workshop;

#[tokio::test]
async fn a_commit_comes_over_the_git_protocol() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("Dockerfile", "FROM scratch\n");
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop.prepare(&server.url("repo"), &[&commit]).await;
    assert_eq!(outcome.commit(), commit);
    assert_eq!(outcome.text("Dockerfile"), "FROM scratch\n");
    assert!(outcome.fetched());
    assert!(!outcome.context.join(".git").exists());
    assert!(
        outcome
            .log
            .contains(&format!("Fetching {}\n", server.url("repo")))
    );
    let head = format!("HEAD is now at {} Dockerfile\n", &commit[..7]);
    assert!(outcome.log.contains(&head), "{}", outcome.log);
}

#[tokio::test]
async fn a_commit_comes_over_http() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "group/repo");
    let commit = source.commit_file("a/b/c", "deep\n");
    let server = Http::serve(&workshop.served());
    let outcome = workshop
        .prepare(&server.url("group/repo"), &[&commit])
        .await;
    assert_eq!(outcome.commit(), commit);
    assert_eq!(outcome.text("a/b/c"), "deep\n");
    assert!(server.requests() >= 2);
}

#[tokio::test]
async fn files_are_what_git_checks_out() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    source
        .write("plain", "text\n")
        .write("dir/run.sh", "#!/bin/sh\n")
        .write("empty", "");
    fs::set_permissions(
        source.path.join("dir/run.sh"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    symlink("plain", source.path.join("link")).unwrap();
    symlink("/etc/passwd", source.path.join("outside")).unwrap();
    symlink("missing/away", source.path.join("dangling")).unwrap();
    source
        .write("with space", "1")
        .write("new\nline", "2")
        .write("tab\t\"quote\"", "3")
        .write("ünïcode", "4");
    let raw = OsString::from_vec(b"not-utf8-\xff\xfe".to_vec());
    fs::write(source.path.join(&raw), "5").unwrap();
    fs::create_dir(source.path.join("raw")).unwrap();
    fs::write(source.path.join("raw").join(&raw), "6").unwrap();
    source
        .write("-dash", "7")
        .write("CON", "8")
        .write("git~1x", "9")
        .write("back\\slash", "10");
    source
        .write(".gitattributes", "*.crlf text eol=crlf\n")
        .write("dos.crlf", "one\ntwo\n");
    source.write("bytes", "\u{0}\u{1}\u{7f}");
    let commit = source.commit("odd names");
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop.prepare(&server.url("repo"), &[&commit]).await;
    assert_eq!(outcome.commit(), commit);
    assert_eq!(listing(&outcome.context), oracle(&source, &commit));
    let again = workshop
        .prepare_with_git(&server.url("repo"), &[&commit])
        .await;
    assert_eq!(again.commit(), commit);
    assert_eq!(listing(&again.context), oracle(&source, &commit));
}

#[tokio::test]
async fn attributes_count_wherever_they_are_and_whatever_they_ask_for() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    source
        .write(".gitattributes", "*.md merge=union\n*.sh text eol=lf\n")
        .write("CHANGES.md", "one\ntwo\n")
        .write("run.sh", "one\ntwo\n")
        .write("win/run.bat", "one\ntwo\n")
        .write("c/main.c", "/* $Id$ */\n");
    let harmless = source.commit("nothing to be changed");
    // git would look at the attributes of what is checked out in the source.
    let unchanged = oracle(&source, &harmless);
    source
        .write("win/.gitattributes", "*.bat text eol=crlf\n")
        .write("c/.gitattributes", "*.c ident\n");
    let changing = source.commit("line ends and ids");
    let changed = oracle(&source, &changing);
    assert_ne!(changed, unchanged);
    let server = Daemon::serve(&workshop.served());
    for (commit, expected) in [(&harmless, unchanged), (&changing, changed)] {
        let outcome = workshop.prepare(&server.url("repo"), &[commit]).await;
        assert_eq!(listing(&outcome.context), expected);
        let with_git = workshop
            .prepare_with_git(&server.url("repo"), &[commit])
            .await;
        assert_eq!(listing(&with_git.context), expected);
        let status = git(&with_git.context, &["status", "--porcelain"]);
        assert_eq!(status, "", "the context's own git sees changes");
    }
}

#[tokio::test]
async fn a_new_commit_is_fetched_on_top_of_what_is_there() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let first = source.commit_file("big", &Noise(1).letters(200_000));
    let server = Daemon::serve(&workshop.served());
    let url = server.url("repo");
    workshop.prepare(&url, &[&first]).await.commit();
    let second = source.commit_file("small", "x");
    let outcome = workshop.prepare(&url, &[&second]).await;
    assert_eq!(outcome.commit(), second);
    assert_eq!(listing(&outcome.context), oracle(&source, &second));
    assert!(
        outcome.log.contains("Received 3 objects, 1 KiB\n"),
        "{}",
        outcome.log
    );
}

#[tokio::test]
async fn a_commit_on_no_branch_comes_by_its_merge_request() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    source.commit_file("a", "1");
    let hidden = source.commit_file("b", "request");
    source.git(&["update-ref", "refs/merge-requests/7/head", &hidden]);
    let tip = source.commit_file("b", "more of the request");
    source.git(&["update-ref", "refs/merge-requests/8/head", &tip]);
    source.git(&["reset", "-q", "--hard", "HEAD~2"]);
    let server = Daemon::serve(&workshop.served());
    // The tip of a ref is fetched by that ref, one below a tip needs them all.
    let by_tip = workshop.prepare(&server.url("repo"), &[&tip]).await;
    assert_eq!(by_tip.text("b"), "more of the request");
    let fresh = Workshop::new();
    let below = fresh.prepare(&server.url("repo"), &[&hidden]).await;
    assert_eq!(below.text("b"), "request");
}

#[tokio::test]
async fn a_commit_below_a_branch_comes_with_all_branches_when_the_server_refuses_bare_hashes() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let below = source.commit_file("a", "1");
    source.commit_file("a", "2");
    source.git(&["branch", "other"]);
    let server = Http::serve(&workshop.served());
    let outcome = workshop.prepare(&server.url("repo"), &[&below]).await;
    assert_eq!(outcome.text("a"), "1");
    let refs = super::sources::git(&workshop.mirror(), &["for-each-ref", "--format=%(refname)"]);
    assert!(refs.contains("refs/remotes/origin/other"), "{refs}");
}

#[tokio::test]
async fn a_server_that_serves_bare_hashes_is_asked_for_no_more() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    source.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let wanted = source.commit_file("a", "1");
    source.git(&["checkout", "-q", "--orphan", "unrelated"]);
    let unwanted = source.commit_file("huge", "not for us");
    source.git(&["checkout", "-q", "-B", "main", &wanted]);
    source.commit_file("a", "2");
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop.prepare(&server.url("repo"), &[&wanted]).await;
    assert_eq!(outcome.text("a"), "1");
    let known = try_git(&workshop.mirror(), &["cat-file", "-e", &unwanted]);
    assert!(
        !known.status.success(),
        "the other branch was fetched as well"
    );
}

#[tokio::test]
async fn a_branch_that_gave_way_to_a_directory_of_branches_is_no_obstacle() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    source.commit_file("a", "1");
    source.git(&["branch", "topic"]);
    let first = source.head();
    let server = Daemon::serve(&workshop.served());
    workshop
        .prepare_with_git(&server.url("repo"), &[&first])
        .await
        .commit();
    source.git(&["branch", "-D", "topic"]);
    let second = source.commit_file("a", "2");
    source.git(&["branch", "topic/sub"]);
    source.commit_file("a", "3");
    let outcome = workshop.prepare(&server.url("repo"), &[&second]).await;
    assert_eq!(outcome.commit(), second);
}

#[tokio::test]
async fn no_commits_give_an_empty_directory_whatever_the_repository() {
    let workshop = Workshop::new();
    let request = workshop.request("nonsense", &[]);
    fs::write(request.destination.join("old"), "left over").unwrap();
    let outcome = super::workshop::run(&request).await;
    assert_eq!(outcome.result.unwrap().commit, None);
    assert!(super::workshop::is_empty(&outcome.context));
    assert!(!workshop.cache().exists());
}
