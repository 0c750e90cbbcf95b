//! A process that is killed while it commits: what was acknowledged is there, and batches are whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{ended, open, recorded, worker};
use ocluster_store::{JobId, JobIds, Store, Writer, WriterConfig};

const DIR: &str = "OCLUSTER_STORE_CRASH_DIR";

/// Runs the child below on `dir` and kills it after so many acknowledgements. Gives them.
fn run_and_kill(dir: &std::path::Path, after: usize) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "child_commits_until_it_is_killed",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acked = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(id) = line.unwrap().strip_prefix("acknowledged ") {
            acked.push(id.parse().unwrap());
        }
        if acked.len() == after {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(
        !status.success() && acked.len() >= after,
        "it was killed: {status}"
    );
    acked
}

#[test]
fn every_acknowledged_change_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<u64> = Vec::new();
    for round in 1..=5 {
        let acked = run_and_kill(dir.path(), round * 20);
        assert!(
            acked.iter().all(|id| !all.contains(id)),
            "an id was handed out again after a crash"
        );
        all.extend(acked);
        let store = open(dir.path());
        for id in &all {
            assert!(
                store.job(JobId::new(*id)).unwrap().is_some(),
                "job {id} is gone"
            );
        }
        // Each batch holds a job and a worker of the same number: they come together or not at all.
        let mut jobs: Vec<String> = store
            .jobs(None, usize::MAX)
            .unwrap()
            .iter()
            .map(|job| job.id.to_string())
            .collect();
        let mut workers: Vec<String> = store
            .load(0)
            .unwrap()
            .workers
            .into_iter()
            .map(|w| w.name)
            .collect();
        jobs.sort();
        workers.sort();
        assert_eq!(jobs, workers);
    }
}

#[tokio::test]
#[ignore = "run by every_acknowledged_change_survives_a_kill, which kills it"]
async fn child_commits_until_it_is_killed() {
    let dir = std::env::var_os(DIR).expect("the parent names a directory");
    let store = open(dir.as_ref());
    let next = store.load(0).unwrap().next_job_id;
    let writer = Writer::start(Box::new(store), WriterConfig::default()).unwrap();
    let handle = writer.handle();
    let mut ids = JobIds::start(handle.clone(), next).await.unwrap();
    loop {
        let batch: Vec<_> = (0..3).map(|_| ids.next_id().unwrap()).collect();
        let commits: Vec<_> = batch
            .iter()
            .map(|id| {
                let changes = vec![
                    recorded(ended(id.get(), 1)),
                    worker("p", &id.to_string(), false),
                ];
                (id, handle.commit(changes))
            })
            .collect();
        for (id, commit) in commits {
            commit.await.unwrap();
            println!("acknowledged {}", id.get());
        }
    }
}
