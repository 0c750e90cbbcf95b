//! A process that is killed while it writes logs: what is stored is a prefix of what it wrote, and can be gone on with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use common::{read_all, soon};
use ocluster_joblog::{End, LogConfig, LogStore};
use sha2::{Digest as _, Sha256};

const DIR: &str = "OCLUSTER_JOBLOG_CRASH_DIR";
/// Logs that grow at the same time.
const LOGS: u64 = 8;
/// The limit of all logs. Some pass it early, some are killed before.
const LIMIT: u64 = 700_000;

fn config() -> LogConfig {
    LogConfig {
        max_log_bytes: LIMIT,
        ..LogConfig::default()
    }
}

/// What the log of a job says at these places.
fn text(id: u64, from: u64, length: u64) -> Vec<u8> {
    let byte = |place: u64| ((place * 31 + place / 251 + id * 7) % 251) as u8;
    (from..from + length).map(byte).collect()
}

/// Ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Runs the child below on a directory of logs and kills it after so many appends.
fn run_and_kill(dir: &Path, after: usize) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "child_writes_until_it_is_killed",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let said = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let appended = said.map_while(Result::ok).filter(|line| line == "appended");
    assert_eq!(appended.take(after).count(), after, "it was killed early");
}

#[tokio::test]
async fn what_a_killed_process_stored_is_a_prefix_and_goes_on_without_a_seam() {
    let dir = tempfile::tempdir().unwrap();
    let note =
        format!("\n[log truncated: it passed the limit of {LIMIT} bytes; the job goes on]\n");
    for round in 0..6 {
        run_and_kill(dir.path(), 3 + round * 40);
        let store = LogStore::open(dir.path(), config()).unwrap();
        for info in store.list().await {
            assert_eq!(info.end, None, "log {}: nobody ended it", info.id);
            let (data, _) = read_all(&store.reader(info.id).await.unwrap()).await;
            assert_eq!(data.len() as u64, info.length);
            let own = info.length.min(LIMIT);
            let mut expected = text(info.id, 0, own);
            expected.extend(note.bytes().take(data.len() - expected.len()));
            assert!(data == expected, "log {}: not a prefix", info.id);
        }
        store.close().await;
    }
    // In the end each one is gone on with from where it is, and is whole.
    let store = LogStore::open(dir.path(), config()).unwrap();
    for id in 0..LOGS {
        let stored = store.info(id).await.map_or(0, |info| info.length);
        let mut writer = match stored {
            0 => continue,
            _ => store.resume(id, stored).await.unwrap(),
        };
        let more = LIMIT + 5 - stored.min(LIMIT);
        let piece = text(id, stored.min(LIMIT), more);
        soon(writer.append(Bytes::from(piece))).await.unwrap();
        let info = soon(writer.finish(End::Closed)).await.unwrap();
        let (data, end) = read_all(&store.reader(id).await.unwrap()).await;
        assert_eq!(end, Ok(()));
        let mut expected = text(id, 0, LIMIT);
        expected.extend(note.bytes());
        assert!(data == expected, "log {id}: not whole");
        assert_eq!(info.digest, Some(Sha256::digest(&data).into()));
    }
}

#[tokio::test]
#[ignore = "run by what_a_killed_process_stored_is_a_prefix_and_goes_on_without_a_seam, which kills it"]
async fn child_writes_until_it_is_killed() {
    let dir = std::env::var_os(DIR).expect("the parent names a directory");
    let store = LogStore::open(dir.as_ref(), config()).unwrap();
    let mut writers = Vec::new();
    for id in 0..LOGS {
        let stored = store.info(id).await.ok().map(|info| info.length);
        writers.push(match stored {
            Some(stored) => store.resume(id, stored).await.unwrap(),
            None => store.create(id).unwrap(),
        });
    }
    let mut places: Vec<u64> = writers
        .iter()
        .map(|writer| writer.length().min(LIMIT))
        .collect();
    for turn in 0u64.. {
        for (writer, place) in writers.iter_mut().zip(&mut places) {
            // Some logs grow fast, some slowly.
            let length = 100 + writer.id() * writer.id() * 900 + turn % 7;
            let piece = text(writer.id(), *place, length);
            *place += length;
            writer.append(Bytes::from(piece)).await.unwrap();
        }
        println!("appended");
    }
}
