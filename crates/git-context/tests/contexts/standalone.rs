//! Contexts with a `.git` of their own.

use std::fs;

use super::servers::{Daemon, Http};
use super::sources::{Source, git, listing, oracle};
use super::workshop::Workshop;

#[tokio::test]
async fn the_git_directory_works_wherever_the_context_goes() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let old = source.commit_file("a", "1");
    source.git(&["tag", "-a", "v1", "-m", "one"]);
    source.git(&["branch", "other"]);
    let commit = source.commit_file("dir/b", "2");
    let server = Http::serve(&workshop.served());
    let outcome = workshop
        .prepare_with_git(&server.url("repo"), &[&commit])
        .await;
    assert_eq!(outcome.commit(), commit);
    let moved = workshop.dir.path().join("moved");
    fs::rename(&outcome.context, &moved).unwrap();
    fs::remove_dir_all(workshop.cache()).unwrap();
    assert_eq!(listing(&moved), oracle(&source, &commit));
    assert_eq!(git(&moved, &["status", "--porcelain"]), "");
    assert_eq!(
        git(&moved, &["log", "--format=%H"]),
        format!("{commit}\n{old}")
    );
    assert_eq!(
        git(&moved, &["describe"]),
        format!("v1-1-g{}", &commit[..7])
    );
    assert_eq!(git(&moved, &["rev-parse", "origin/other"]), old);
    assert_eq!(git(&moved, &["symbolic-ref", "HEAD"]), "refs/heads/master");
    assert_eq!(git(&moved, &["fsck", "--strict"]), "");
    assert!(!moved.join(".git/objects/info/alternates").exists());
}

#[tokio::test]
async fn all_branches_are_there_though_jobs_without_git_have_cached_the_commit() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let first = source.commit_file("a", "1");
    source.git(&["branch", "other"]);
    let second = source.commit_file("a", "2");
    let server = Http::serve(&workshop.served());
    let url = server.url("repo");
    let other = |context: &std::path::Path, branch: &str| {
        git(context, &["rev-parse", &format!("origin/{branch}")])
    };
    // Given a cache with a commit and not all branches,
    workshop.prepare(&url, &[&second]).await.commit();
    // Then a job that wants them has them, and the next one has them from the cache.
    let outcome = workshop.prepare_with_git(&url, &[&second]).await;
    outcome.commit();
    assert!(outcome.fetched());
    assert_eq!(other(&outcome.context, "other"), first);
    let outcome = workshop.prepare_with_git(&url, &[&second]).await;
    outcome.commit();
    assert!(!outcome.fetched());
    // Given a fetch of one commit since, then those that have come meanwhile are there, too.
    source.git(&["branch", "late"]);
    let third = source.commit_file("a", "3");
    workshop.prepare(&url, &[&third]).await.commit();
    let outcome = workshop.prepare_with_git(&url, &[&third]).await;
    outcome.commit();
    assert_eq!(other(&outcome.context, "late"), second);
}

#[tokio::test]
async fn d5_a_host_other_than_github_is_no_obstacle_and_no_request_refs_are_configured() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    source.git(&["update-ref", "refs/merge-requests/1/head", &commit]);
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare_with_git(&server.url("repo"), &[&commit])
        .await;
    outcome.commit();
    let specs = git(
        &outcome.context,
        &["config", "--get-all", "remote.origin.fetch"],
    );
    assert_eq!(specs, "+refs/heads/*:refs/remotes/origin/*");
    let refs = git(&outcome.context, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/master\nrefs/remotes/origin/main");
}

#[tokio::test]
async fn the_git_directory_names_neither_this_machine_nor_a_password() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let server = Http::serve(&workshop.served());
    let url = server
        .url("repo")
        .replace("127.0.0.1", "me:s3cret@127.0.0.1");
    let outcome = workshop.prepare_with_git(&url, &[&commit]).await;
    outcome.commit();
    let machine = workshop.dir.path().display().to_string();
    let mut looked_at = 0;
    for line in listing(&outcome.context.join(".git")) {
        assert!(
            !line.contains("s3cret") && !line.contains(&machine),
            "{line}"
        );
        looked_at += 1;
    }
    assert!(looked_at > 10, "{looked_at}");
    assert_eq!(
        git(&outcome.context, &["config", "remote.origin.url"]),
        server.url("repo")
    );
}
