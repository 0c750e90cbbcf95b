//! Stories of readers: long poll, places counted from the end, many followers, slow ones, and ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{bytes, logs, logs_with, read_all, soon};
use futures_lite_poll::is_waiting;
use ocluster_joblog::{End, LogConfig, ReadError};

/// Polls a future once.
mod futures_lite_poll {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    pub(crate) fn is_waiting<F: Future>(future: Pin<&mut F>) -> bool {
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }
}

#[tokio::test]
async fn a_reader_waits_for_bytes_and_then_for_the_end() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    let reader = writer.reader();

    let mut first = Box::pin(reader.read(0, 100));
    assert!(is_waiting(first.as_mut()), "there is nothing to read yet");
    writer.append(bytes("hello")).await.unwrap();
    let chunk = soon(first).await.unwrap();
    assert_eq!((chunk.data, chunk.next), (bytes("hello"), 5));

    let mut second = Box::pin(reader.read(5, 100));
    assert!(is_waiting(second.as_mut()), "everything was read");
    writer.finish(End::Closed).await.unwrap();
    let chunk = soon(second).await.unwrap();
    assert_eq!(
        (chunk.data, chunk.next),
        (Bytes::new(), 5),
        "empty is the end"
    );
}

#[tokio::test]
async fn negative_places_count_from_the_end_once_and_stop_at_the_beginning() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    writer.append(bytes("0123456789")).await.unwrap();
    let reader = writer.reader();
    assert_eq!(soon(reader.read(-3, 100)).await.unwrap().data, "789");
    assert_eq!(soon(reader.read(-10, 4)).await.unwrap().data, "0123");
    let beyond = soon(reader.read(-11, 100)).await.unwrap();
    assert_eq!((beyond.data, beyond.next), (bytes("0123456789"), 10));
    assert_eq!(soon(reader.read(i64::MIN, 100)).await.unwrap().next, 10);

    // The place is fixed when the read begins, not when bytes arrive.
    let logs = common::logs();
    let mut writer = logs.store.create(1).unwrap();
    let reader = writer.reader();
    let mut early = Box::pin(reader.read(-2, 100));
    assert!(is_waiting(early.as_mut()));
    writer.append(bytes("abcdef")).await.unwrap();
    assert_eq!(soon(early).await.unwrap().data, "abcdef");
}

#[tokio::test]
async fn a_place_past_the_end_is_an_error() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    writer.append(bytes("abc")).await.unwrap();
    let error = soon(writer.reader().read(4, 10)).await.unwrap_err();
    assert_eq!(
        error,
        ReadError::PastEnd {
            start: 4,
            length: 3
        }
    );
    logs.write(2, "abc").await;
    let reader = logs.store.reader(2).await.unwrap();
    assert!(matches!(
        soon(reader.read(4, 10)).await,
        Err(ReadError::PastEnd { .. })
    ));
    assert!(soon(reader.read(3, 10)).await.unwrap().data.is_empty());
}

#[tokio::test]
async fn a_broken_log_gives_its_bytes_and_then_the_reason() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    let follower = writer.reader();
    writer.append(bytes("half a lo")).await.unwrap();
    let reason = "worker w1 was lost".to_owned();
    let end = End::Broken {
        reason: reason.clone(),
    };
    writer.finish(end).await.unwrap();
    let broken = Err(ReadError::Broken { reason });

    assert_eq!(
        read_all(&follower).await,
        (b"half a lo".to_vec(), broken.clone())
    );
    drop(follower);
    // And the same for those who come later, also after a restart.
    let late = logs.store.reader(1).await.unwrap();
    assert_eq!(
        read_all(&late).await,
        (b"half a lo".to_vec(), broken.clone())
    );
    drop(late);
    let logs = logs.reopen().await;
    let later = logs.store.reader(1).await.unwrap();
    assert_eq!(read_all(&later).await, (b"half a lo".to_vec(), broken));
}

#[tokio::test]
async fn a_follower_of_a_log_whose_writer_vanishes_is_told() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    writer.append(bytes("abc")).await.unwrap();
    let reader = writer.reader();
    let mut waiting = Box::pin(reader.read(3, 10));
    assert!(is_waiting(waiting.as_mut()));
    drop(writer);
    assert!(matches!(soon(waiting).await, Err(ReadError::Broken { .. })));
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    let reader = writer.reader();
    for round in 0..100u64 {
        let mut given_up = Box::pin(reader.read(i64::try_from(round).unwrap(), 10));
        assert!(is_waiting(given_up.as_mut()));
        drop(given_up);
        writer.append(bytes("x")).await.unwrap();
    }
    writer.finish(End::Closed).await.unwrap();
    // Reads of the disk are dropped halfway, too.
    let late = logs.store.reader(1).await.unwrap();
    for _ in 0..100 {
        let mut given_up = Box::pin(late.read(0, 10));
        let _either_way = is_waiting(given_up.as_mut());
    }
    assert_eq!(read_all(&late).await, (vec![b'x'; 100], Ok(())));
    assert_eq!(read_all(&reader).await, (vec![b'x'; 100], Ok(())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_followers_get_the_same_bytes() {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    let followers: Vec<_> = (0..100)
        .map(|_| {
            let reader = writer.reader();
            tokio::spawn(async move { read_all(&reader).await })
        })
        .collect();
    let mut expected = Vec::new();
    for line in 0..5000 {
        let text = format!("line {line} of the build\n");
        expected.extend_from_slice(text.as_bytes());
        writer.append(text.into()).await.unwrap();
        if line % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    writer.finish(End::Closed).await.unwrap();
    for follower in followers {
        let (data, end) = soon(follower).await.unwrap();
        assert_eq!(end, Ok(()));
        assert!(data == expected, "a follower got other bytes");
    }
}

#[tokio::test]
async fn a_slow_follower_keeps_nobody_waiting_and_nothing_in_memory() {
    // Given a log with a reader that stopped at its first byte,
    let config = LogConfig {
        max_waiting_per_log: 128 << 10,
        max_waiting: 128 << 10,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let mut writer = logs.store.create(1).unwrap();
    let slow = writer.reader();
    writer.append(bytes("a")).await.unwrap();
    assert_eq!(slow.read(0, 1).await.unwrap().next, 1);
    // when far more is written than may wait in memory,
    let block = Bytes::from(vec![b'b'; 64 << 10]);
    for _ in 0..256 {
        soon(writer.append(block.clone())).await.unwrap();
    }
    // then nobody waited for the reader, who still finds every byte.
    writer.finish(End::Closed).await.unwrap();
    let chunk = soon(slow.read(1, 1 << 30)).await.unwrap();
    assert_eq!(
        chunk.data.len(),
        128 << 10,
        "no more than a chunk at a time"
    );
    let (data, end) = read_all(&slow).await;
    assert_eq!((data.len(), end), (1 + (16 << 20), Ok(())));
    assert_eq!(logs.store.info(1).await.unwrap().length, 1 + (16 << 20));
}

#[tokio::test]
async fn readers_can_wait_for_the_end_alone() {
    let logs = logs();
    let writer = logs.store.create(1).unwrap();
    let reader = writer.reader();
    let waiting = tokio::spawn(async move { reader.ended().await });
    tokio::task::yield_now().await;
    drop(writer.finish(End::Closed));
    assert_eq!(soon(waiting).await.unwrap(), End::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_do_not_wait_for_the_disk() {
    // Given a store that writes only every hour, a follower has its bytes now.
    let config = LogConfig {
        linger: Duration::from_secs(3600),
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let mut writer = logs.store.create(1).unwrap();
    writer.append(bytes("now")).await.unwrap();
    let reader = logs.store.reader(1).await.unwrap();
    assert_eq!(soon(reader.read(0, 10)).await.unwrap().data, "now");
    assert!(!logs.pack(0).exists(), "the disk has nothing yet");
    soon(writer.finish(End::Closed)).await.unwrap();
    assert!(logs.pack(0).exists(), "an awaited end does not linger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_nobody_hurries_are_written_with_the_next_one_that_somebody_does() {
    let config = LogConfig {
        linger: Duration::from_secs(3600),
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let mut patient = Box::pin(logs.store.create(1).unwrap().finish_unhurried(End::Closed));
    assert!(is_waiting(patient.as_mut()));
    let waits = tokio::time::timeout(Duration::from_millis(50), patient.as_mut());
    assert!(waits.await.is_err(), "nobody made the disk hurry");
    let writer = logs.store.create(2).unwrap();
    soon(writer.finish(End::Closed)).await.unwrap();
    assert_eq!(soon(patient).await.unwrap().end, Some(End::Closed));
}
