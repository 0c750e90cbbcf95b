//! Stories of digests and of going on with a log: what is told at the end is of the whole log, whatever came between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{Logs, bytes, logs, logs_with, read_all, soon};
use ocluster_joblog::{End, LogConfig, LogInfo, LogWriter};
use sha2::{Digest as _, Sha256};

fn sha256(data: &[u8]) -> Option<[u8; 32]> {
    Some(Sha256::digest(data).into())
}

async fn close(writer: LogWriter) -> LogInfo {
    soon(writer.finish(End::Closed)).await.unwrap()
}

/// The stored bytes, which must have the digest that was told at the end.
async fn checked(logs: &Logs, info: &LogInfo) -> Vec<u8> {
    let (data, _) = read_all(&logs.store.reader(info.id).await.unwrap()).await;
    assert_eq!(info.digest, sha256(&data));
    data
}

fn limited(max_log_bytes: u64) -> LogConfig {
    LogConfig {
        max_log_bytes,
        ..LogConfig::default()
    }
}

const NOTE: &str = "\n[log truncated: it passed the limit of 10 bytes; the job goes on]\n";

#[tokio::test]
async fn the_digest_is_that_of_everything_a_reader_can_get() {
    let logs = logs();
    for (id, length) in [(1, 0), (2, 1), (3, 4000), (4, 5000), (5, 3_000_000)] {
        let mut writer = logs.store.create(id).unwrap();
        let data: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[1]).collect();
        for piece in data.chunks(70_000) {
            writer.append(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let info = close(writer).await;
        assert!(checked(&logs, &info).await == data, "{length} bytes");
        // Nobody else is told: it is not kept.
        assert_eq!(logs.store.info(id).await.unwrap().digest, None);
    }
}

#[tokio::test]
async fn the_digest_of_a_broken_log_leaves_the_reason_out() {
    let logs = logs();
    for (id, text) in [(1, "short".to_owned()), (2, "long".repeat(5000))] {
        let mut writer = logs.store.create(id).unwrap();
        writer.append(text.clone().into()).await.unwrap();
        let reason = "the worker was lost".to_owned();
        let end = End::Broken { reason };
        let info = soon(writer.finish(end.clone())).await.unwrap();
        assert_eq!(checked(&logs, &info).await, text.as_bytes());
        assert_eq!(logs.store.info(id).await.unwrap().end, Some(end));
    }
}

#[tokio::test]
async fn a_kill_between_the_end_and_its_reason_costs_the_reason_alone() {
    let logs = logs();
    let file = logs.put_file(1, "text");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, whole.replacen("closed", "broken", 1)).unwrap();
    let (data, end) = read_all(&logs.store.reader(1).await.unwrap()).await;
    assert_eq!(data, b"text");
    assert_eq!(
        end.unwrap_err().to_string(),
        "the log stops here, and the reason was lost"
    );
}

#[tokio::test]
async fn a_resumed_log_is_digested_from_its_beginning() {
    let mut logs = logs();
    // More than one piece is stored, and the cut lies within one.
    let first: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut writer = logs.store.create(1).unwrap();
    writer.append(first.clone().into()).await.unwrap();
    drop(writer);
    logs = logs.reopen().await;
    let mut expected = first[..200_001].to_vec();
    let mut writer = logs.store.resume(1, 200_001).await.unwrap();
    writer.append(bytes("second")).await.unwrap();
    expected.extend(b"second");
    drop(writer);
    // And once more, cutting into what was added, and adding nothing.
    logs = logs.reopen().await;
    expected.truncate(200_004);
    let writer = logs.store.resume(1, 200_004).await.unwrap();
    let info = close(writer).await;
    assert_eq!(info.length, 200_004);
    assert!(checked(&logs, &info).await == expected);
}

#[tokio::test]
async fn a_log_resumed_from_nothing_has_the_digest_of_what_came_then() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    writer
        .append(bytes("all of this is cut off"))
        .await
        .unwrap();
    drop(writer);
    let logs = logs.reopen().await;
    let mut writer = logs.store.resume(1, 0).await.unwrap();
    writer.append(bytes("new")).await.unwrap();
    let info = close(writer).await;
    assert_eq!(checked(&logs, &info).await, b"new");
}

/// A log of ten bytes and the note, unfinished.
async fn truncated() -> Logs {
    let logs = logs_with(limited(10));
    let mut writer = logs.store.create(1).unwrap();
    writer.append(bytes("0123456789abc")).await.unwrap();
    drop(writer);
    logs.store.clone().close().await;
    logs
}

async fn reopened(logs: Logs, limit: u64) -> Logs {
    let store = ocluster_joblog::LogStore::open(logs.dir.path(), limited(limit)).unwrap();
    Logs {
        dir: logs.dir,
        store,
    }
}

/// Resumes at the end of what is stored, prints more than fits, and gives the whole log.
async fn go_on(logs: &Logs, more: &str) -> String {
    let stored = logs.store.info(1).await.unwrap().length;
    let mut writer = logs.store.resume(1, stored).await.unwrap();
    assert_eq!(writer.length(), stored);
    writer.append(bytes(more)).await.unwrap();
    writer.append(bytes(more)).await.unwrap();
    let info = close(writer).await;
    String::from_utf8(checked(logs, &info).await).unwrap()
}

#[tokio::test]
async fn the_note_about_the_limit_is_written_once_over_restarts() {
    let logs = reopened(truncated().await, 10).await;
    assert_eq!(go_on(&logs, "def").await, format!("0123456789{NOTE}"));
}

#[tokio::test]
async fn a_note_that_a_kill_cut_off_is_completed() {
    for part in 0..NOTE.len() as u64 {
        let logs = truncated().await;
        let file = std::fs::File::options().write(true).open(logs.file(1));
        file.unwrap().set_len(64 + 10 + part).unwrap();
        let logs = reopened(logs, 10).await;
        assert_eq!(
            go_on(&logs, "def").await,
            format!("0123456789{NOTE}"),
            "{part} bytes of it were there"
        );
    }
}

#[tokio::test]
async fn a_cut_before_the_limit_takes_the_note_along() {
    let logs = reopened(truncated().await, 10).await;
    let mut writer = logs.store.resume(1, 7).await.unwrap();
    writer.append(bytes("xy")).await.unwrap();
    let info = close(writer).await;
    assert_eq!(checked(&logs, &info).await, b"0123456xy");
}

#[tokio::test]
async fn a_limit_that_was_lowered_is_noted_where_it_strikes() {
    let logs = logs_with(limited(100));
    let mut writer = logs.store.create(1).unwrap();
    writer.append(bytes("0123456789abcdef")).await.unwrap();
    drop(writer);
    logs.store.clone().close().await;
    let logs = reopened(logs, 10).await;
    assert_eq!(go_on(&logs, "g").await, format!("0123456789abcdef{NOTE}"));
}
