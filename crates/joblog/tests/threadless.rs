//! Stories of a log store without threads: what is written when, and what a crash takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ocluster_joblog::{End, LogConfig, LogStore};
use tokio::runtime::Runtime;

/// A runtime whose time stands still unless everybody waits.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

fn open(dir: &Path, pace: Duration) -> LogStore {
    LogStore::open_threadless(dir, LogConfig::default(), Arc::new(move || pace)).unwrap()
}

#[test]
fn a_crash_takes_what_the_disk_had_no_time_for_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Duration::from_secs(1);
    let first = runtime();
    first.block_on(async {
        let logs = open(dir.path(), slow);
        let mut writer = logs.create(1).unwrap();
        writer.append(Bytes::from("kept ")).await.unwrap();
        tokio::time::sleep(2 * slow).await;
        writer.append(Bytes::from("lost")).await.unwrap();
        let read = writer.reader().read(5, 100).await.unwrap();
        assert_eq!(read.data, "lost", "readers need not wait for the disk");
        tokio::time::sleep(slow / 2).await;
    });
    drop(first);

    runtime().block_on(async {
        let logs = open(dir.path(), slow);
        assert_eq!(logs.info(1).await.unwrap().length, 5);
        let mut writer = logs.resume(1, 5).await.unwrap();
        writer.append(Bytes::from("again")).await.unwrap();
        let info = writer.finish(End::Closed).await.unwrap();
        assert_eq!((info.length, info.end), (10, Some(End::Closed)));
        let read = logs.reader(1).await.unwrap().read(0, 100).await.unwrap();
        assert_eq!(read.data, "kept again");
        logs.close().await;
    });
}

#[test]
fn closing_writes_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let logs = open(dir.path(), Duration::from_millis(3));
        let mut writer = logs.create(7).unwrap();
        writer.append(Bytes::from("all of it")).await.unwrap();
        drop(writer);
        logs.close().await;
    });
    runtime().block_on(async {
        let logs = open(dir.path(), Duration::ZERO);
        let read = logs.reader(7).await.unwrap().read(0, 100).await.unwrap();
        assert_eq!(read.data, "all of it");
    });
}

#[test]
fn readers_that_wait_for_the_disk_never_see_what_a_crash_would_take_back() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Duration::from_secs(1);
    runtime().block_on(async {
        let config = LogConfig::default();
        let logs = LogStore::open_threadless(dir.path(), config, Arc::new(move || slow)).unwrap();
        let mut writer = logs.create(1).unwrap();
        let reader = writer.reader().of_what_is_stored();
        for (start, piece) in [(0, "first"), (5, "second")] {
            writer.append(Bytes::from(piece)).await.unwrap();
            let early = tokio::time::timeout(slow / 2, reader.read(start, 100)).await;
            assert!(early.is_err(), "read before it was written: {early:?}");
            let read = reader.read(start, 100).await.unwrap();
            assert_eq!(read.data, piece);
        }
        writer.append(Bytes::from("last")).await.unwrap();
        let finished = writer.finish(End::Closed);
        assert_eq!(reader.read(11, 100).await.unwrap().data, "last");
        assert_eq!(reader.read(15, 100).await.unwrap().data, "");
        finished.await.unwrap();
    });
}
