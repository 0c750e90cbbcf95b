//! Figures of the store on this machine: a restart with a million open jobs, and the price of a durable submission.
//!
//! They are printed and not asserted, because they are the machine's as much as ours. To see them:
//! `cargo test --release -p ocluster-store --test figures -- --ignored --nocapture --test-threads=1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::time::{Duration, Instant};

use common::open;
use ocluster_store::{Change, JobId, JobKind, JobRecord, Store, StoreHandle, Writer, WriterConfig};

/// Open jobs in the big store.
const JOBS: u64 = 1_000_000;

/// Resident memory of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_ascii_whitespace().nth(1);
    words.unwrap().parse::<u64>().unwrap() / 1024
}

fn accepted(id: u64, description: usize) -> Change {
    let record = JobRecord {
        durable: true,
        hint: format!("github.com/example/project-{}", id % 5000),
        fair_start: 1_700_000_000.0 + id as f64,
        submission_digest: Some([7; 32]),
        ..JobRecord::queued(
            JobId::new(id),
            "linux-x86_64",
            "builder",
            JobKind::Obuilder,
            id,
        )
    };
    Change::JobAccepted {
        record: Box::new(record),
        description: vec![(id % 251) as u8; description],
    }
}

fn disk_usage(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let sizes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => disk_usage(&entry.path()),
        false => entry.metadata().unwrap().len(),
    });
    sizes.sum()
}

#[test]
#[ignore = "prints figures; takes a minute and a gigabyte of disk"]
fn a_restart_with_a_million_open_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let start = Instant::now();
    for first in (1..=JOBS).step_by(2000) {
        let batch: Vec<Change> = (first..first + 2000).map(|id| accepted(id, 300)).collect();
        store.apply(&batch).unwrap();
    }
    println!(
        "filled in {:?}, {} MiB resident",
        start.elapsed(),
        resident()
    );
    drop(store);
    println!("{} MiB of disk", disk_usage(dir.path()) >> 20);
    // In a process of its own each, as a restart is. The first one reads sled's whole log, as after a crash; the second
    // one has its summary.
    for round in ["first", "second"] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "child_starts"])
            .env(DIR, dir.path())
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let said = String::from_utf8(child.stdout).unwrap();
        let line = said.lines().find(|line| line.contains("opened in"));
        println!("{round} start: {}", line.unwrap());
    }
}

const DIR: &str = "OCLUSTER_STORE_FIGURES_DIR";

#[test]
#[ignore = "run by a_restart_with_a_million_open_jobs"]
fn child_starts() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let before = resident();
    let start = Instant::now();
    let store = open(dir.as_ref());
    let opened = start.elapsed();
    let snapshot = store.load(0).unwrap();
    let loaded = start.elapsed();
    assert_eq!(snapshot.open_jobs.len() as u64, JOBS);
    let with_snapshot = resident();
    drop(snapshot);
    println!(
        "opened in {opened:?}, loaded after {loaded:?}; resident {before} MiB before, {with_snapshot} MiB with the snapshot, {} MiB without",
        resident()
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn print_quantiles(what: &str, mut taken: Vec<Duration>) {
    taken.sort();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: p50 {:?}, p99 {:?}, worst {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

async fn commit(handle: StoreHandle, id: u64) -> Duration {
    let start = Instant::now();
    handle.commit(vec![accepted(id, 1024)]).await.unwrap();
    start.elapsed()
}

#[test]
#[ignore = "prints figures; takes half a minute"]
fn durable_submissions() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(Box::new(open(dir.path())), WriterConfig::default()).unwrap();
    let handle = writer.handle();
    runtime().block_on(async {
        let seconds = 10;
        let end = Instant::now() + Duration::from_secs(seconds);
        let next = std::rc::Rc::new(std::cell::Cell::new(1));
        let local = tokio::task::LocalSet::new();
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (handle, next) = (handle.clone(), std::rc::Rc::clone(&next));
                local.spawn_local(async move {
                    let mut taken = Vec::new();
                    while Instant::now() < end {
                        let id = next.replace(next.get() + 1);
                        taken.push(commit(handle.clone(), id).await);
                    }
                    taken
                })
            })
            .collect();
        let mut taken = Vec::new();
        local
            .run_until(async {
                for task in tasks {
                    taken.extend(task.await.unwrap());
                }
            })
            .await;
        println!(
            "64 committers: {} submissions/s",
            taken.len() as u64 / seconds
        );
        print_quantiles("64 committers", taken);
        let first = next.get();
        let mut clock = tokio::time::interval(Duration::from_millis(2));
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut tasks = Vec::new();
        for id in first..first + 500 * seconds {
            clock.tick().await;
            tasks.push(tokio::spawn(commit(handle.clone(), id)));
        }
        let mut taken = Vec::new();
        for task in tasks {
            taken.push(task.await.unwrap());
        }
        print_quantiles("500 submissions/s", taken);
        writer.close().await.unwrap();
    });
}
