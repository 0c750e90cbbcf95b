//! Stories of keeping: retention, restarts, crashes and going on after them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, SystemTime};

use common::{bytes, logs, read_all, soon};
use ocluster_joblog::{End, LogConfig, LogStore, ReadError, WriteError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn touch(path: &std::path::Path, when: SystemTime) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(when).unwrap();
}

#[test]
fn a_new_directory_of_logs_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("logs");
    let _store = LogStore::open(&dir, LogConfig::default()).unwrap();
    let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn old_logs_go_by_age() {
    let logs = logs();
    let now = SystemTime::now();
    for id in 1..=3 {
        logs.put_file(id, "text");
    }
    touch(&logs.file(1), now - 3 * DAY);
    touch(&logs.file(2), now - DAY);
    touch(&logs.file(3), now);
    let pruned = logs.store.prune(now, Some(2 * DAY), None).await;
    assert_eq!((pruned.logs, pruned.bytes, pruned.bytes_left), (1, 68, 136));
    assert_eq!(
        logs.store.reader(1).await.unwrap_err(),
        ReadError::NotFound { id: 1 }
    );
    assert!(logs.store.reader(2).await.is_ok());
    assert!(logs.store.reader(3).await.is_ok());
}

#[tokio::test]
async fn the_oldest_logs_go_when_all_are_too_much() {
    let logs = logs();
    let now = SystemTime::now();
    for (id, age) in [(1, 1), (2, 4), (3, 2), (5000, 3)] {
        touch(&logs.put_file(id, "text"), now - age * DAY);
    }
    let pruned = logs.store.prune(now, None, Some(2 * 68)).await;
    assert_eq!((pruned.logs, pruned.bytes_left), (2, 136));
    let left: Vec<u64> = logs.store.list().await.iter().map(|info| info.id).collect();
    assert_eq!(left, [1, 3]);
    assert!(
        !logs.file(5000).parent().unwrap().exists(),
        "an empty directory goes with its last log"
    );
}

#[tokio::test]
async fn logs_in_use_are_never_pruned() {
    let logs = logs();
    logs.put_file(1, "being read");
    let reader = logs.store.reader(1).await.unwrap();
    let mut writer = logs.store.create(2).unwrap();
    writer.append(bytes("being written")).await.unwrap();
    logs.put_file(3, "idle");
    let later = SystemTime::now() + 100 * DAY;
    let pruned = logs.store.prune(later, Some(DAY), Some(0)).await;
    assert_eq!(pruned.logs, 1);
    assert!(!logs.store.remove(1).await);
    assert_eq!(read_all(&reader).await.0, b"being read");
    writer.finish(End::Closed).await.unwrap();
    drop(reader);
    let pruned = logs.store.prune(later, Some(DAY), Some(0)).await;
    assert_eq!((pruned.logs, pruned.bytes_left), (2, 0));
}

#[tokio::test]
async fn finished_logs_are_not_kept_in_memory_but_found_again() {
    let logs = logs();
    for id in 0..50 {
        logs.write(id, &format!("log {id}")).await;
    }
    for id in 0..50 {
        assert!(logs.store.live_reader(id).is_none());
        let reader = logs.store.reader(id).await.unwrap();
        assert_eq!(read_all(&reader).await.0, format!("log {id}").into_bytes());
    }
}

#[tokio::test]
async fn a_restart_finds_every_log_and_knows_which_were_not_finished() {
    let logs = logs();
    logs.write(1, "whole").await;
    let mut writer = logs.store.create(2).unwrap();
    writer.append(bytes("half")).await.unwrap();
    let mut empty = logs.store.create(3).unwrap();
    empty.append(bytes("")).await.unwrap();
    empty.finish(End::Closed).await.unwrap();
    drop(writer);
    let logs = logs.reopen().await;

    let found = logs.store.list().await;
    let seen: Vec<_> = found
        .iter()
        .map(|info| (info.id, info.length, info.end.clone()))
        .collect();
    assert_eq!(
        seen,
        [
            (1, 5, Some(End::Closed)),
            (2, 4, None),
            (3, 0, Some(End::Closed))
        ]
    );
    // An unfinished log can be read, and says that it is one.
    let (data, end) = read_all(&logs.store.reader(2).await.unwrap()).await;
    assert_eq!(data, b"half");
    assert!(matches!(end, Err(ReadError::Broken { .. })), "{end:?}");
    // It can be ended once for all.
    let ended = logs
        .store
        .break_unfinished("the scheduler was restarted")
        .await;
    assert_eq!(ended.len(), 1);
    let reason = "the scheduler was restarted".to_owned();
    let (data, end) = read_all(&logs.store.reader(2).await.unwrap()).await;
    assert_eq!(
        (data, end),
        (b"half".to_vec(), Err(ReadError::Broken { reason }))
    );
    assert!(logs.store.break_unfinished("again").await.is_empty());
}

#[tokio::test]
async fn an_unfinished_log_goes_on_where_its_writer_says() {
    let logs = logs();
    let mut writer = logs.store.create(7).unwrap();
    writer.append(bytes("0123456789")).await.unwrap();
    let refused = logs.store.resume(7, 4).await.unwrap_err();
    assert!(
        refused.to_string().contains("it is being written"),
        "{refused}"
    );
    drop(writer);
    let logs = logs.reopen().await;
    let refused = logs.store.resume(7, 11).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot resume log 7 at byte 11: only 10 bytes are stored"
    );
    let mut writer = logs.store.resume(7, 8).await.unwrap();
    assert_eq!(writer.length(), 8);
    let follower = logs.store.reader(7).await.unwrap();
    writer.append(bytes("-and on")).await.unwrap();
    writer.finish(End::Closed).await.unwrap();
    assert_eq!(
        read_all(&follower).await,
        (b"01234567-and on".to_vec(), Ok(()))
    );
    drop(follower);
    let refused = logs.store.resume(7, 8).await.unwrap_err();
    assert!(refused.to_string().contains("it has ended"), "{refused}");
    assert_eq!(
        logs.store.resume(8, 0).await.unwrap_err(),
        WriteError::NotFound { id: 8 }
    );
}

#[tokio::test]
async fn a_finished_log_that_lost_its_tail_says_how_much() {
    let logs = logs();
    let file = std::fs::File::options()
        .write(true)
        .open(logs.put_file(1, "0123456789"))
        .unwrap();
    file.set_len(64 + 7).unwrap();
    let (data, end) = read_all(&logs.store.reader(1).await.unwrap()).await;
    assert_eq!(data, b"0123456");
    assert_eq!(
        end.unwrap_err().to_string(),
        "the log stops here: its last 3 bytes were lost, probably when the machine went down"
    );
    // A file without a whole header is an unfinished log of no bytes.
    file.set_len(10).unwrap();
    let info = logs.store.info(1).await.unwrap();
    assert_eq!((info.length, info.end), (0, None));
}

#[tokio::test]
async fn a_file_that_is_no_log_is_refused_and_left_alone() {
    let logs = logs();
    logs.write(1, "x").await;
    std::fs::write(logs.file(2), "y".repeat(100)).unwrap();
    let error = logs.store.reader(2).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read log 2: its first line is not a log's"
    );
    assert_eq!(logs.store.list().await.len(), 1);
    assert!(logs.file(2).exists());
}

#[tokio::test]
async fn closing_writes_what_waits_and_refuses_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        linger: Duration::from_secs(3600),
        ..LogConfig::default()
    };
    let store = LogStore::open(dir.path(), config.clone()).unwrap();
    let mut writer = store.create(1).unwrap();
    let reader = writer.reader();
    writer.append(bytes("before")).await.unwrap();
    soon(store.close()).await;
    // The first append after the close may be taken, but it breaks the log.
    let _taken = writer.append(bytes("after")).await;
    assert_eq!(writer.append(bytes("after")).await, Err(WriteError::Closed));
    let (data, end) = read_all(&reader).await;
    assert_eq!(data, b"before");
    assert!(end.is_err());
    drop((writer, reader));
    let store = LogStore::open(dir.path(), config).unwrap();
    assert_eq!(store.info(1).await.unwrap().length, 6);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing").join("logs");
    let error = LogStore::open(&path, LogConfig::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("missing/logs") && text.contains("No such file"),
        "{text}"
    );
}
