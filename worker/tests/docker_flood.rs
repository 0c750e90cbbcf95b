//! A build step that floods its log: all of it arrives, a slow reader slows it down, and memory stays as it was, also
//! while a big context is sent.
//!
//! This is a program of its own, because it measures its own memory.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use docker_support::{Job, engine};
use ocluster_api::{Action, JobSpec};
use ocluster_worker::executor::{Executor, JobContext, JobLog, Outcome};
use tokio_util::sync::CancellationToken;

const FLOOD: usize = 200 << 20;
const ALLOWED_GROWTH_KIB: usize = 32 << 10;

/// A line of `/proc/self/status`, in KiB.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_flood_of_200_mib_arrives_whole_in_little_memory() {
    needs_docker!("a_flood_of_200_mib_arrives_whole_in_little_memory");
    let (executor, _) = engine().await;
    let job = Job::fresh(&format!("RUN yes 0123456789abcde | head -c {FLOOD}"));
    // The context must not be held in memory either.
    std::fs::File::create(job.context.path().join("big"))
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let (log, mut chunks) = JobLog::new(16);
    let before = memory("VmRSS");
    let reader = tokio::spawn(async move {
        let (mut total, mut flooded) = (0, 0);
        while let Some(chunk) = chunks.recv().await {
            total += chunk.len();
            flooded += chunk.iter().filter(|byte| **byte == b'e').count();
        }
        (total, flooded)
    });
    let spec = JobSpec {
        action: Action::Docker(job.build),
        cache_hint: String::new(),
        source: None,
        secrets: vec![],
    };
    let cancel = CancellationToken::new();
    let context = job.context.path();
    let outcome = executor
        .execute(JobContext {
            spec: &spec,
            context,
            scratch: context,
            log: &log,
            cancel: &cancel,
        })
        .await;
    drop(log);
    let (total, flooded) = reader.await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Succeeded {
            output: String::new()
        }
    );
    assert!(
        total > FLOOD && flooded >= FLOOD / 16,
        "{total} bytes arrived"
    );
    let grown = memory("VmHWM") - before;
    assert!(
        grown < ALLOWED_GROWTH_KIB,
        "a flood of {FLOOD} bytes and a context of 300 MiB took {grown} KiB of memory"
    );
}
