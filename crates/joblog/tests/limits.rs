//! Stories of bounds: the size limit, back-pressure, a disk that says no, and the price of tiny logs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Logs, bytes, logs, logs_with, read_all, soon};
use ocluster_joblog::{Appended, End, LogConfig, LogStore, ReadError, WriteError};

#[tokio::test]
async fn a_log_past_its_limit_ends_with_a_clear_line_and_counts_the_rest() {
    let config = LogConfig {
        max_log_bytes: 10,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let mut writer = logs.store.create(1).unwrap();
    assert_eq!(writer.append(bytes("012345")).await, Ok(Appended::Stored));
    assert_eq!(writer.append(bytes("6789")).await, Ok(Appended::Stored));
    assert_eq!(writer.append(bytes("abc")).await, Ok(Appended::Truncated));
    assert_eq!(writer.append(bytes("defg")).await, Ok(Appended::Truncated));
    assert_eq!(writer.try_append(&bytes("h")), Ok(None));
    let info = writer.finish(End::Closed).await.unwrap();
    assert_eq!(info.dropped, 7);

    let (data, end) = read_all(&logs.store.reader(1).await.unwrap()).await;
    assert_eq!(
        String::from_utf8(data).unwrap(),
        "0123456789\n[log truncated: it passed the limit of 10 bytes; the job goes on]\n"
    );
    assert_eq!(end, Ok(()), "the job's log is complete as far as it goes");
    assert_eq!(logs.store.info(1).await.unwrap().dropped, 7);
}

#[tokio::test]
async fn a_header_that_claims_any_number_of_dropped_bytes_can_be_gone_on_with() {
    let logs = logs();
    logs.write(1, "hello").await;
    let claimed = format!("ocluster-log 1 closed {:020} {}\nhello", 5, u64::MAX);
    std::fs::write(logs.file(1), claimed).unwrap();

    let mut writer = logs.store.reopen_within(1, 5, Some(5)).await.unwrap();
    assert_eq!(writer.append(bytes("more")).await, Ok(Appended::Truncated));
    let info = writer.finish(End::Closed).await.unwrap();
    assert_eq!(info.dropped, u64::MAX);
}

#[tokio::test]
async fn a_log_with_a_limit_of_its_own_keeps_it_and_nobody_elses_and_after_a_resumption_too() {
    let config = LogConfig {
        max_log_bytes: 8,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    for (id, own, kept) in [(1, Some(3), 3), (2, Some(100), 8), (3, None, 8)] {
        let mut writer = logs.store.create_within(id, own).unwrap();
        writer.append(bytes("01")).await.unwrap();
        drop(writer);
        soon(async {
            while !logs
                .store
                .info(id)
                .await
                .is_ok_and(|info| info.length == 2 && !info.live)
            {}
        })
        .await;
        let mut writer = logs.store.resume_within(id, 2, own).await.unwrap();
        writer.append(bytes("23456789ab")).await.unwrap();
        let info = writer.finish(End::Closed).await.unwrap();
        assert_eq!(info.dropped, 12 - kept, "log {id}");
        let (data, _) = read_all(&logs.store.reader(id).await.unwrap()).await;
        let line = format!("limit of {kept} bytes");
        assert!(String::from_utf8(data).unwrap().contains(&line), "log {id}");
    }
}

#[tokio::test]
async fn a_log_that_has_ended_can_be_reopened_by_those_who_insist() {
    let logs = logs();
    logs.write(1, "before\n").await;
    assert!(matches!(
        logs.store.resume(1, 7).await,
        Err(WriteError::Resume { .. })
    ));
    let mut writer = logs.store.reopen_within(1, 7, None).await.unwrap();
    let follower = writer.reader();
    writer.append(bytes("after\n")).await.unwrap();
    let info = writer.finish(End::Closed).await.unwrap();
    assert_eq!(info.length, 13);
    let (data, end) = read_all(&follower).await;
    assert_eq!((data, end), (b"before\nafter\n".to_vec(), Ok(())));
    // It is as if it had been written in one go.
    let mut whole = logs.store.create(2).unwrap();
    whole.append(bytes("before\nafter\n")).await.unwrap();
    let whole = whole.finish(End::Closed).await.unwrap();
    assert!(info.digest.is_some());
    assert_eq!(info.digest, whole.digest);
}

#[tokio::test]
async fn a_log_of_exactly_the_limit_is_whole() {
    let config = LogConfig {
        max_log_bytes: 3,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    logs.write(1, "abc").await;
    let (data, _) = read_all(&logs.store.reader(1).await.unwrap()).await;
    assert_eq!(data, b"abc");
}

#[tokio::test]
async fn a_writer_waits_when_the_disk_is_behind_and_goes_on_when_it_catches_up() {
    // Given a disk that does nothing for an hour unless it must,
    let config = LogConfig {
        linger: Duration::from_secs(3600),
        max_waiting_per_log: 128 << 10,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let mut flood = logs.store.create(1).unwrap();
    let mut quiet = logs.store.create(2).unwrap();
    // when one log fills what may wait (63 KiB, so that no append asks for a write by itself),
    let block = Bytes::from(vec![b'x'; 63 << 10]);
    assert_eq!(flood.try_append(&block), Ok(Some(Appended::Stored)));
    // then more of it has to wait for the disk, a quiet log does not,
    let too_much = Bytes::from(vec![b'y'; 100 << 10]);
    assert_eq!(flood.try_append(&too_much), Ok(None));
    assert_eq!(quiet.try_append(&bytes("z")), Ok(Some(Appended::Stored)));
    // and waiting makes the disk work.
    soon(flood.append(too_much)).await.unwrap();
    assert_eq!(flood.length(), 163 << 10);
}

#[tokio::test]
async fn one_byte_appends_are_charged_what_they_cost_in_memory() {
    let config = LogConfig {
        linger: Duration::from_secs(3600),
        max_waiting_per_log: 128 << 10,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let mut writer = logs.store.create(1).unwrap();
    let mut taken = 0;
    while writer.try_append(&bytes("x")).unwrap().is_some() {
        taken += 1;
        assert!(taken <= 2048, "one-byte pieces are not free");
    }
}

#[tokio::test]
async fn all_logs_together_are_bounded() {
    let config = LogConfig {
        linger: Duration::from_secs(3600),
        max_waiting: 128 << 10,
        ..LogConfig::default()
    };
    let logs = logs_with(config);
    let block = Bytes::from(vec![b'x'; 50 << 10]);
    let mut writers: Vec<_> = (0..3).map(|id| logs.store.create(id).unwrap()).collect();
    assert!(writers[0].try_append(&block).unwrap().is_some());
    assert!(writers[1].try_append(&block).unwrap().is_some());
    assert_eq!(writers[2].try_append(&block), Ok(None));
    soon(writers[2].append(block)).await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_there_already_is_not_written_over() {
    let logs = logs();
    logs.write(1, "first").await;
    let mut second = logs.store.create(1).unwrap();
    let same = logs.store.create(1).unwrap_err();
    assert_eq!(same, WriteError::Exists { id: 1 });
    second.append(bytes("second")).await.unwrap();
    let error = soon(second.finish(End::Closed)).await.unwrap_err();
    assert_eq!(error, WriteError::Exists { id: 1 });
    let (data, _) = read_all(&logs.store.reader(1).await.unwrap()).await;
    assert_eq!(data, b"first");
}

#[tokio::test]
async fn a_disk_that_takes_no_new_files_breaks_those_logs_only_and_recovers() {
    let logs = logs();
    // Given a group directory that cannot be made,
    let in_the_way = logs.dir.path().join("0");
    std::fs::write(&in_the_way, "").unwrap();
    let mut hurt = logs.store.create(1).unwrap();
    let follower = hurt.reader();
    hurt.append(bytes("lost")).await.unwrap();
    // when its log is to be written, then it breaks, for readers and for the writer,
    let end = soon(follower.ended()).await;
    let End::Broken { reason } = end else {
        panic!("it cannot be complete");
    };
    assert!(
        reason.starts_with(
            "the log stops here because it could not be written: failed to write log 1: "
        ),
        "{reason}"
    );
    let error = hurt.append(bytes("more")).await.unwrap_err();
    assert!(matches!(error, WriteError::Io { id: 1, .. }), "{error}");
    assert!(hurt.finish(End::Closed).await.is_err());
    assert!(matches!(
        soon(follower.read(4, 10)).await,
        Err(ReadError::Broken { .. })
    ));
    // others are not hurt,
    logs.write(2000, "fine").await;
    // and new logs work once the trouble is over.
    std::fs::remove_file(&in_the_way).unwrap();
    logs.write(2, "fine again").await;
    let (data, end) = read_all(&logs.store.reader(2).await.unwrap()).await;
    assert_eq!((data, end), (b"fine again".to_vec(), Ok(())));
}

/// The child below runs with a limit on the size of files, which is the nearest thing to a full disk that any user can
/// make: the shell ignores the signal that goes with it, so that writes fail.
#[test]
fn a_disk_that_fills_breaks_the_log_that_grows_and_no_other() {
    let child = std::process::Command::new("sh")
        .arg("-c")
        .arg(r#"trap '' XFSZ; ulimit -f 400; exec "$0" --exact --ignored --nocapture child_with_small_files"#)
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(said.contains("1 passed"), "the child ran: {said}");
}

#[tokio::test]
#[ignore = "run by a_disk_that_fills_breaks_the_log_that_grows_and_no_other, with a limit on file sizes"]
async fn child_with_small_files() {
    let logs = logs();
    let mut big = logs.store.create(1).unwrap();
    let mut small = logs.store.create(2).unwrap();
    let follower = big.reader();
    let block = Bytes::from(vec![b'x'; 50 << 10]);
    let error = loop {
        small.append(bytes("fine\n")).await.unwrap();
        if let Err(error) = soon(big.append(block.clone())).await {
            break error;
        }
    };
    assert!(matches!(error, WriteError::Io { id: 1, .. }), "{error}");
    drop(big);
    // The follower gets what is stored and then the reason; so does one who comes later.
    let (data, end) = read_all(&follower).await;
    assert!(data.iter().all(|byte| *byte == b'x'));
    assert!(matches!(end, Err(ReadError::Broken { .. })), "{end:?}");
    drop(follower);
    let late = logs.store.reader(1).await.unwrap();
    let (late_data, end) = read_all(&late).await;
    assert_eq!(late_data.len(), data.len());
    assert!(matches!(end, Err(ReadError::Broken { .. })), "{end:?}");
    // A pack that can grow no more breaks nobody: those for whom it has no room get files.
    let text = "y".repeat(3000);
    for id in 10..110 {
        logs.write(id, &text).await;
    }
    assert!(logs.pack(0).exists() && !logs.file(10).exists());
    assert!(logs.file(109).exists());
    for id in 10..110 {
        assert!(logs.text(id).await == text, "log {id}");
    }
    // The other log ends well.
    small.finish(End::Closed).await.unwrap();
    let (data, end) = read_all(&logs.store.reader(2).await.unwrap()).await;
    assert!(data.starts_with(b"fine\n"));
    assert_eq!(end, Ok(()));
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let total: u64 = threads
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(total)
}

async fn write_tiny(store: &LogStore, ids: std::ops::Range<u64>) {
    let mut last = None;
    for id in ids {
        let mut writer = store.create(id).unwrap();
        writer.append(bytes("a line or two\n")).await.unwrap();
        writer.append(bytes("of a no-op job\n")).await.unwrap();
        last = Some(writer.finish(End::Closed));
        if id % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    last.unwrap().await.unwrap();
}

#[tokio::test]
async fn ten_thousand_tiny_logs_are_cheap() {
    let logs = logs();
    let (start, cpu_start) = (Instant::now(), cpu());
    write_tiny(&logs.store, 0..10_000).await;
    let (wall, cpu_used) = (start.elapsed(), cpu() - cpu_start);
    eprintln!(
        "10,000 tiny logs: {wall:?}, {:?} of CPU each",
        cpu_used / 10_000
    );
    // Generous, because ext4 makes files slowly for half a minute after many were deleted, as test runs do.
    assert!(wall < Duration::from_secs(60), "{wall:?}");
    let Logs { dir: _dir, store } = logs;
    let listed = store.list().await;
    assert_eq!(listed.len(), 10_000);
    assert!(
        listed
            .iter()
            .all(|info| info.length == 29 && info.end == Some(End::Closed))
    );
}
