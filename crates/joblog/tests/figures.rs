//! What a small log costs, in figures to read: run with `--release --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod common;

use std::time::{Duration, Instant};

use common::{bytes, logs, soon};
use ocluster_joblog::{End, LogStore};

/// Logs that are written.
const LOGS: u64 = 20_000;
/// Logs that are open at a time, as on a scheduler with so many no-op jobs under way.
const OPEN: usize = 64;

/// Time on a processor of this process's threads of this name, or of all.
fn cpu(name: Option<&str>) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let named = tasks.filter(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.is_none_or(|name| comm.trim() == name)
    });
    let spent = named.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// Writes logs of 60 bytes, of which each is over when the one `OPEN` before it is on disk.
async fn write(store: &LogStore) {
    let line = bytes(&format!("{:59}\n", "Building on worker-1"));
    let mut ends = std::collections::VecDeque::new();
    for id in 0..LOGS {
        let mut writer = store.create(id).unwrap();
        writer.append(line.clone()).await.unwrap();
        ends.push_back(tokio::spawn(writer.finish(End::Closed)));
        if ends.len() == OPEN {
            let end = ends.pop_front().unwrap();
            soon(end).await.unwrap().unwrap();
        }
    }
    for end in ends {
        soon(end).await.unwrap().unwrap();
    }
}

#[tokio::test]
#[ignore = "a measurement: it prints what it finds"]
async fn what_a_small_log_costs() {
    let logs = logs();
    let (start, before, disk_before) = (Instant::now(), cpu(None), cpu(Some("joblog")));
    write(&logs.store).await;
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / LOGS as f64;
    eprintln!(
        "{LOGS} logs of 60 bytes: {:.2} us each, {:.2} us of processor time, {:.2} of them in the disk's thread",
        each(start.elapsed()),
        each(cpu(None) - before),
        each(cpu(Some("joblog")) - disk_before),
    );
}
