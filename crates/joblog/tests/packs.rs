//! Stories of small logs, which share a file: what is read, gone on with, removed, torn and damaged there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{Logs, bytes, logs, read_all, soon};
use ocluster_joblog::{End, LogConfig, LogStore, ReadError, WriteError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest log that fits into an entry.
const LARGEST: usize = 4096 - 80 - 1;

fn broken(reason: &str) -> End {
    End::Broken {
        reason: reason.to_owned(),
    }
}

/// An entry as it is in a pack.
fn entry(sign: char, id: u64, text: &str, reason: Option<&str>) -> String {
    let state = reason.map_or("closed", |_| "broken");
    let (length, reason) = (text.len(), reason.unwrap_or_default());
    let reason_length = reason.len();
    format!(
        "ocluster-packed 1 {sign} {state} {id:020} {length:05} {:020} {reason_length:04}\n{text}{reason}\n",
        0
    )
}

async fn write_broken(logs: &Logs, id: u64, text: &str, reason: &str) {
    let mut writer = logs.store.create(id).unwrap();
    writer.append(bytes(text)).await.unwrap();
    soon(writer.finish(broken(reason))).await.unwrap();
}

/// A store whose first pack is this.
fn with_pack(pack: &[u8]) -> Logs {
    let logs = logs();
    std::fs::create_dir(logs.dir.path().join("0")).unwrap();
    std::fs::write(logs.pack(0), pack).unwrap();
    logs
}

async fn is_gone(logs: &Logs, id: u64) -> bool {
    logs.store.reader(id).await.unwrap_err() == ReadError::NotFound { id }
}

fn files(logs: &Logs, range: u64) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(logs.dir.path().join(range.to_string()));
    let mut files: Vec<_> = dir.unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_pack_is_text_that_a_person_can_read() {
    let logs = logs();
    logs.write(7, "Building on w1\n").await;
    write_broken(&logs, 5, "half", "the worker was lost").await;
    logs.write(6, "").await;
    let expected = [
        entry('+', 7, "Building on w1\n", None),
        entry('+', 5, "half", Some("the worker was lost")),
        entry('+', 6, "", None),
    ];
    assert_eq!(read(&logs.pack(0)), expected.concat());
    assert_eq!(expected[2].len(), 81);
}

#[tokio::test]
async fn packs_are_for_their_owner_and_group_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let logs = logs();
    logs.write(1, "x").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&logs.pack(0)) & 0o137, 0);
    assert_eq!(mode(logs.pack(0).parent().unwrap()) & 0o027, 0);
}

#[tokio::test]
async fn packed_logs_are_read_listed_and_found_as_all_others() {
    let mut logs = logs();
    for id in 0..2000 {
        let writer = logs.store.create(id).unwrap();
        let mut writer = writer;
        writer.append(bytes(&format!("log {id}"))).await.unwrap();
        drop(writer.finish_unhurried(End::Closed));
    }
    logs.write(2000, "the last").await;
    for _ in 0..2 {
        assert_eq!(files(&logs, 0), [logs.pack(0)]);
        assert_eq!(logs.ids().await, (0..=2000).collect::<Vec<_>>());
        for id in [0, 1, 1023, 1024, 1999] {
            assert_eq!(logs.text(id).await, format!("log {id}"));
            let reader = logs.store.reader(id).await.unwrap();
            assert_eq!(reader.end(), Some(End::Closed));
            let last = soon(reader.read(-2, 100)).await.unwrap();
            assert_eq!(
                last.data,
                format!("log {id}").as_bytes()[last.next as usize - 2..]
            );
            let past = soon(reader.read(100, 10)).await;
            assert!(matches!(past, Err(ReadError::PastEnd { .. })), "{past:?}");
            let info = logs.store.info(id).await.unwrap();
            assert_eq!((info.length, info.end), (last.next, Some(End::Closed)));
        }
        assert!(is_gone(&logs, 2001).await);
        logs = logs.reopen().await;
    }
}

#[tokio::test]
async fn a_follower_reads_on_when_its_log_has_gone_into_a_pack() {
    let logs = logs();
    logs.write(1, "first").await;
    let mut writer = logs.store.create(2).unwrap();
    writer.append(bytes("0123456789")).await.unwrap();
    let follower = writer.reader();
    soon(writer.finish(broken("lost"))).await.unwrap();
    let reason = "lost".to_owned();
    let expected = (b"0123456789".to_vec(), Err(ReadError::Broken { reason }));
    assert_eq!(read_all(&follower).await, expected);
    drop(follower);
    assert_eq!(
        read_all(&logs.store.reader(2).await.unwrap()).await,
        expected
    );
}

#[tokio::test]
async fn what_is_too_large_for_a_pack_or_was_written_before_its_end_has_a_file() {
    let logs = logs();
    logs.write(1, &"x".repeat(LARGEST)).await;
    logs.write(2, &"x".repeat(LARGEST + 1)).await;
    write_broken(&logs, 3, &"x".repeat(LARGEST - 4), "lost").await;
    write_broken(&logs, 4, &"x".repeat(LARGEST - 3), "lost").await;
    let mut writer = logs.store.create(5).unwrap();
    writer.append(bytes("early")).await.unwrap();
    let stored = writer.reader().of_what_is_stored();
    assert_eq!(soon(stored.read(0, 10)).await.unwrap().data, "early");
    soon(writer.finish(End::Closed)).await.unwrap();
    let expected = [logs.pack(0), logs.file(2), logs.file(4), logs.file(5)];
    assert_eq!(files(&logs, 0), expected);
    assert_eq!(std::fs::metadata(logs.pack(0)).unwrap().len(), 2 * 4096);
    assert_eq!(logs.ids().await, [1, 2, 3, 4, 5]);
    assert_eq!(logs.text(1).await.len(), LARGEST);
    assert_eq!(logs.text(5).await, "early");
    let ends = [(3, LARGEST - 4), (4, LARGEST - 3)];
    for (id, length) in ends {
        let info = logs.store.info(id).await.unwrap();
        assert_eq!(
            (info.length, info.end),
            (length as u64, Some(broken("lost")))
        );
    }
}

#[tokio::test]
async fn a_reason_too_long_for_a_pack_is_cut_and_kept_in_a_file() {
    let logs = logs();
    write_broken(&logs, 1, "x", &"é".repeat(3000)).await;
    assert_eq!(files(&logs, 0), [logs.file(1)]);
    let info = logs.store.info(1).await.unwrap();
    assert_eq!(info.end, Some(broken(&"é".repeat(2048))));
    write_broken(&logs, 2, "x", &"é".repeat(2000)).await;
    assert_eq!(files(&logs, 0), [logs.pack(0), logs.file(1)]);
    let info = logs.store.info(2).await.unwrap();
    assert_eq!(info.end, Some(broken(&"é".repeat(2000))));
}

#[tokio::test]
async fn an_id_that_is_in_a_pack_or_has_a_file_is_not_written_again() {
    let mut logs = logs();
    logs.put_file(2, "first");
    logs.write(1, "first").await;
    for _ in 0..2 {
        for id in [1, 2] {
            // As a small whole log,
            let writer = logs.store.create(id).unwrap();
            let refused = soon(writer.finish(End::Closed)).await.unwrap_err();
            assert_eq!(refused, WriteError::Exists { id });
            // as one that grows, and as a large one.
            let mut writer = logs.store.create(id).unwrap();
            writer.append(bytes("second")).await.unwrap();
            assert_ne!(soon(writer.reader().ended()).await, End::Closed);
            assert_eq!(
                writer.append(bytes("more")).await,
                Err(WriteError::Exists { id })
            );
            drop(writer);
            soon(async {
                while logs.store.live_reader(id).is_some() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let mut writer = logs.store.create(id).unwrap();
            writer.append(vec![b'x'; 5000].into()).await.unwrap();
            let refused = soon(writer.finish(End::Closed)).await.unwrap_err();
            assert_eq!(refused, WriteError::Exists { id });
            assert_eq!(logs.text(id).await, "first");
        }
        logs = logs.reopen().await;
    }
    assert_eq!(logs.ids().await, [1, 2]);
}

#[tokio::test]
async fn no_pack_is_left_where_nothing_was_packed() {
    let logs = logs();
    logs.put_file(1, "first");
    let writer = logs.store.create(1).unwrap();
    assert!(soon(writer.finish(End::Closed)).await.is_err());
    assert_eq!(files(&logs, 0), [logs.file(1)]);
}

#[tokio::test]
async fn a_kill_at_whatever_byte_of_an_entry_costs_that_entry_alone() {
    let whole = [
        entry('+', 1, "the first", None),
        entry('+', 2, "the second", Some("lost")),
    ]
    .concat();
    let last = entry('+', 3, "the third", Some("it stopped\n"));
    for cut in 0..=last.len() {
        let is_there = cut == last.len();
        let logs = with_pack(format!("{whole}{}", &last[..cut]).as_bytes());
        // Before anything is written, and after.
        assert_eq!(logs.ids().await.len(), 2 + usize::from(is_there), "{cut}");
        assert_eq!(logs.text(1).await, "the first");
        assert_eq!(logs.store.reader(3).await.is_ok(), is_there, "{cut}");
        logs.write(4, "the next").await;
        let next = entry('+', 4, "the next", None);
        let kept = if is_there { last.as_str() } else { "" };
        assert_eq!(read(&logs.pack(0)), format!("{whole}{kept}{next}"), "{cut}");
        let second = logs.store.info(2).await.unwrap();
        assert_eq!((second.length, second.end), (10, Some(broken("lost"))));
        assert_eq!(logs.text(4).await, "the next");
        // Nobody was told that the torn one is there, so it can be written.
        let again = logs.store.create(3).unwrap().finish(End::Closed);
        assert_eq!(soon(again).await.is_ok(), !is_there, "{cut}");
    }
}

#[tokio::test]
async fn a_damaged_pack_gives_what_comes_before_and_is_left_as_it_is() {
    let entries = [
        entry('+', 1, "the first", None),
        entry('+', 2, "the second", Some("lost")),
        entry('+', 3, "the third", None),
    ];
    let (first, whole) = (entries[0].len(), entries.concat());
    // Whatever byte of the second header is wrong, or its last.
    let last = first + entries[1].len() - 1;
    for place in (first..first + 80).chain([last]) {
        let mut pack = whole.clone().into_bytes();
        pack[place] = b'*';
        let logs = with_pack(&pack);
        assert_eq!(logs.ids().await, [1], "byte {place}");
        assert!(is_gone(&logs, 3).await);
        logs.write(4, "the next").await;
        assert_eq!(logs.text(4).await, "the next");
        assert_eq!(files(&logs, 0), [logs.pack(0), logs.file(4)]);
        assert!(std::fs::read(logs.pack(0)).unwrap() == pack, "byte {place}");
    }
    // Ids of another range, and claims that no entry can make.
    let long = entry('+', 2, &"x".repeat(LARGEST + 1), None);
    for strange in [entry('+', 1024, "", None), long] {
        let logs = with_pack(format!("{}{strange}", entries[0]).as_bytes());
        assert_eq!(logs.ids().await, [1]);
    }
}

#[tokio::test]
async fn a_log_that_is_gone_on_with_leaves_its_pack_and_does_not_come_back() {
    let mut logs = logs();
    logs.write(1, "one").await;
    logs.write(2, "before\n").await;
    let early = logs.store.reader(2).await.unwrap();
    let refused = logs.store.resume(2, 7).await.unwrap_err();
    assert!(refused.to_string().contains("it has ended"), "{refused}");
    let refused = logs.store.reopen_within(2, 8, None).await.unwrap_err();
    assert!(refused.to_string().contains("only 7 bytes"), "{refused}");
    let mut writer = logs.store.reopen_within(2, 6, None).await.unwrap();
    assert!(read(&logs.file(2)).starts_with("ocluster-log 1 open  "));
    assert_eq!(
        read(&logs.pack(0)),
        entry('+', 1, "one", None) + &entry('-', 2, "before\n", None)
    );
    writer.append(bytes(" and after\n")).await.unwrap();
    soon(writer.finish(End::Closed)).await.unwrap();
    let again = logs.store.create(2).unwrap().finish(End::Closed);
    assert_eq!(soon(again).await, Err(WriteError::Exists { id: 2 }));
    for _ in 0..2 {
        assert_eq!(logs.text(2).await, "before and after\n");
        assert_eq!(logs.ids().await, [1, 2]);
        logs = logs.reopen().await;
    }
    // Whoever read it before has what there was.
    assert_eq!(read_all(&early).await, (b"before\n".to_vec(), Ok(())));
    drop(early);
    assert!(logs.store.remove(2).await);
    assert!(is_gone(&logs, 2).await);
    assert_eq!(logs.ids().await, [1]);
}

#[tokio::test]
async fn a_kill_while_a_log_leaves_its_pack_loses_nothing_of_it() {
    // Its file was made and nothing written to it,
    let before = logs();
    before.write(1, "packed").await;
    std::fs::write(before.file(1), "").unwrap();
    assert_eq!(before.text(1).await, "packed");
    assert_eq!(before.ids().await, [1]);
    let mut writer = before.store.reopen_within(1, 6, None).await.unwrap();
    writer.append(bytes(" and more")).await.unwrap();
    soon(writer.finish(End::Closed)).await.unwrap();
    assert_eq!(before.text(1).await, "packed and more");
    // or it was written, and the entry is still in the pack.
    let after = logs();
    after.write(1, "packed").await;
    after.put_file(1, "packed and more");
    assert_eq!(after.text(1).await, "packed and more");
    assert_eq!(after.store.list().await[0].length, 15);
    assert!(after.store.remove(1).await);
    assert!(is_gone(&after, 1).await);
}

#[tokio::test]
async fn packed_logs_are_removed_one_by_one_and_their_pack_with_the_last() {
    let mut logs = logs();
    for id in 1..=3 {
        logs.write(id, "text").await;
    }
    let reader = logs.store.reader(2).await.unwrap();
    assert!(!logs.store.remove(2).await, "it is being read");
    drop(reader);
    assert!(logs.store.remove(2).await);
    assert!(!logs.store.remove(2).await);
    for _ in 0..2 {
        assert!(is_gone(&logs, 2).await);
        assert_eq!(logs.ids().await, [1, 3]);
        logs = logs.reopen().await;
    }
    assert!(read(&logs.pack(0)).contains(&entry('-', 2, "text", None)));
    // An id can be used again once its log was removed.
    logs.write(2, "new").await;
    assert_eq!(logs.text(2).await, "new");
    logs = logs.reopen().await;
    assert_eq!(logs.text(2).await, "new");
    for id in 1..=3 {
        assert!(logs.store.remove(id).await);
    }
    assert!(!logs.pack(0).exists());
    assert!(!logs.pack(0).parent().unwrap().exists());
    assert!(logs.ids().await.is_empty());
    logs.write(1, "again").await;
    assert_eq!(logs.text(1).await, "again");
}

#[tokio::test]
async fn a_pack_goes_as_a_whole_when_its_last_log_is_old_or_room_is_needed() {
    let now = SystemTime::now();
    let touch = |path: &Path, when| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(when).unwrap();
    };
    let logs = logs();
    for id in [1, 2, 1024, 2048] {
        logs.write(id, "text").await;
    }
    let size = 2 * 85;
    touch(&logs.put_file(3, "alone"), now);
    touch(&logs.pack(0), now - 3 * DAY);
    touch(&logs.pack(1), now - 2 * DAY);
    touch(&logs.pack(2), now - DAY);
    // One log of the first range is in use, so nothing goes.
    let reader = logs.store.reader(1).await.unwrap();
    let pruned = logs.store.prune(now, Some(5 * DAY / 2), None).await;
    assert_eq!((pruned.logs, pruned.failed), (0, 0));
    drop(reader);
    let pruned = logs.store.prune(now, Some(5 * DAY / 2), None).await;
    assert_eq!((pruned.logs, pruned.bytes), (2, size));
    assert_eq!(files(&logs, 0), [logs.file(3)]);
    assert!(is_gone(&logs, 1).await);
    assert_eq!(logs.ids().await, [3, 1024, 2048]);
    // By size, the oldest first.
    let pruned = logs.store.prune(now, None, Some(85 + 69)).await;
    assert_eq!((pruned.logs, pruned.bytes_left), (1, 85 + 69));
    assert!(!logs.pack(1).parent().unwrap().exists());
    assert_eq!(logs.ids().await, [3, 2048]);
    // And the next ones of these ranges are as whole as ever.
    logs.write(4, "new").await;
    logs.write(1025, "new").await;
    assert_eq!(
        (logs.text(4).await, logs.text(1025).await),
        ("new".into(), "new".into())
    );
}

#[tokio::test]
async fn whoever_deletes_or_cuts_a_pack_takes_no_log_along_that_comes_later() {
    let logs = logs();
    logs.write(1, "deleted").await;
    std::fs::remove_dir_all(logs.pack(0).parent().unwrap()).unwrap();
    assert!(is_gone(&logs, 1).await);
    logs.write(2, "later").await;
    assert_eq!(logs.text(2).await, "later");
    assert_eq!(logs.ids().await, [2]);
    // Nor does one who cuts it.
    logs.write(3, "cut off").await;
    let file = std::fs::File::options().write(true).open(logs.pack(0));
    file.unwrap().set_len(100).unwrap();
    assert!(is_gone(&logs, 3).await);
    logs.write(4, "last").await;
    assert_eq!(logs.ids().await, [2, 4]);
}

#[tokio::test]
async fn an_old_directory_is_read_and_added_to() {
    let logs = logs();
    for id in [1, 5, 1030] {
        logs.put_file(id, &format!("old {id}"));
    }
    logs.write(3, "new").await;
    let logs = logs.reopen().await;
    assert_eq!(logs.ids().await, [1, 3, 5, 1030]);
    assert_eq!(logs.text(5).await, "old 5");
    assert_eq!(logs.text(3).await, "new");
    assert!(logs.store.break_unfinished("restarted").await.is_empty());
}

#[tokio::test]
async fn more_packs_than_are_known_at_a_time_are_written_in_turn() {
    let logs = logs();
    for number in 0..3 {
        for range in 0..20 {
            logs.write(range * 1024 + number, &format!("{range} {number}"))
                .await;
        }
    }
    assert_eq!(logs.ids().await.len(), 60);
    for range in 0..20 {
        assert_eq!(files(&logs, range), [logs.pack(range)]);
        assert_eq!(logs.text(range * 1024 + 2).await, format!("{range} 2"));
    }
    let writer = logs.store.create(0).unwrap();
    let refused = soon(writer.finish(End::Closed)).await.unwrap_err();
    assert_eq!(refused, WriteError::Exists { id: 0 });
}

#[tokio::test]
async fn a_closed_store_holds_no_pack_open() {
    let logs = logs();
    logs.write(1, "x").await;
    let (pack, path) = (std::fs::read(logs.pack(0)).unwrap(), logs.pack(0));
    let kept = logs.store.clone();
    logs.store.close().await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    assert_eq!(links.filter(|link| *link == path).count(), 0);
    // It can be read still.
    assert_eq!(kept.info(1).await.unwrap().length, 1);
    drop(kept);
    let again = LogStore::open(logs.dir.path(), LogConfig::default()).unwrap();
    assert_eq!(again.info(1).await.unwrap().length, 1);
    assert_eq!(std::fs::read(path).unwrap(), pack);
}
