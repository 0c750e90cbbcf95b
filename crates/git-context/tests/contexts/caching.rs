//! What the cache saves, who waits for whom, and what expires.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ocluster_git_context::{Cache, GitError};
use tokio_util::sync::CancellationToken;

use super::servers::{Daemon, Http};
use super::sources::Source;
use super::workshop::{Workshop, child, run};

fn lock_file(workshop: &Workshop) -> PathBuf {
    let mut path = workshop.mirror().into_os_string();
    path.push(".lock");
    path.into()
}

#[tokio::test]
async fn the_second_job_needs_no_server() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let server = Http::serve(&workshop.served());
    let first = workshop.prepare(&server.url("repo"), &[&commit]).await;
    assert!(
        !first.log.contains("All commits already cached"),
        "{}",
        first.log
    );
    let asked = server.requests();
    let second = workshop.prepare(&server.url("repo"), &[&commit]).await;
    assert_eq!(second.text("a"), "1");
    assert!(
        second.log.starts_with("All commits already cached\n"),
        "{}",
        second.log
    );
    assert!(!second.fetched());
    assert_eq!(server.requests(), asked);
}

#[tokio::test]
async fn jobs_that_want_the_same_repository_at_once_fetch_it_once() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    let url = server.url("repo");
    let jobs: Vec<_> = (0..6)
        .map(|_| {
            let request = workshop.request(&url, &[&commit]);
            tokio::spawn(async move { run(&request).await })
        })
        .collect();
    let mut fetches = 0;
    for job in jobs {
        let outcome = job.await.unwrap();
        assert_eq!(outcome.text("a"), "1");
        fetches += outcome.log.matches("Fetching ").count();
        assert!(!outcome.log.contains("corrupted"), "{}", outcome.log);
    }
    assert_eq!(fetches, 1);
}

#[tokio::test]
async fn a_job_waits_for_a_fetch_only_if_it_has_to_fetch() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let cached = source.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    let url = server.url("repo");
    workshop.prepare(&url, &[&cached]).await.commit();
    let fetching = File::open(lock_file(&workshop)).unwrap();
    fetching.lock().unwrap();
    // Given another process that fetches, what is cached is had at once.
    assert_eq!(workshop.prepare(&url, &[&cached]).await.text("a"), "1");
    // What is not waits, says so, and can be cancelled.
    let new = source.commit_file("a", "2");
    let request = workshop.request(&url, &[&new]);
    let cancel = CancellationToken::new();
    let mut log = String::new();
    let mut sink = |line: &[u8]| {
        log.push_str(&String::from_utf8_lossy(line));
        cancel.cancel();
    };
    let result = ocluster_git_context::prepare(&request, &child(), &mut sink, &cancel).await;
    assert_eq!(result, Err(GitError::Cancelled));
    assert_eq!(log, format!("Waiting for another fetch of {url}\n"));
    // And goes on once the other has ended.
    let request = workshop.request(&url, &[&new]);
    let mut fetching = Some(fetching);
    let mut sink = |line: &[u8]| {
        if line.starts_with(b"Waiting for") {
            fetching = None;
        }
    };
    let result =
        ocluster_git_context::prepare(&request, &child(), &mut sink, &CancellationToken::new())
            .await;
    assert!(result.unwrap().fetched);
    assert!(fetching.is_none());
}

#[tokio::test]
async fn a_mirror_nobody_uses_expires_and_comes_back_when_wanted() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    workshop
        .prepare(&server.url("repo"), &[&commit])
        .await
        .commit();
    let week = Duration::from_secs(7 * 24 * 3600);
    let cache = Cache::new(workshop.cache());
    assert_eq!(cache.expire(week).unwrap().kept, 1);
    let stamp = workshop.mirror().with_extension("use");
    let file = File::open(&stamp).unwrap();
    file.set_modified(SystemTime::now() - week * 2).unwrap();
    // A job that finds everything cached counts as use as well.
    workshop
        .prepare(&server.url("repo"), &[&commit])
        .await
        .commit();
    assert_eq!(cache.expire(week).unwrap().kept, 1);
    file.set_modified(SystemTime::now() - week * 2).unwrap();
    assert_eq!(cache.expire(week).unwrap().removed.len(), 1);
    assert_eq!(fs::read_dir(workshop.cache()).unwrap().count(), 0);
    assert!(
        workshop
            .prepare(&server.url("repo"), &[&commit])
            .await
            .fetched()
    );
}
