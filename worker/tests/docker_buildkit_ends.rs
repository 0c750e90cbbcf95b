//! How BuildKit builds end that do not end by themselves: nothing of them goes on, and whose fault it was is clear.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use docker_support::fake::{Build, FakeEngine};
use docker_support::private::PrivateEngine;
use docker_support::{Job, PATIENCE, Running, engine, with_buildkit};
use ocluster_worker::executor::docker::BuildLimits;
use ocluster_worker::executor::{Cause, DockerConfig, DockerExecutor, Failure, Outcome};

/// Whether a process of the machine runs `sleep` for this many seconds.
fn sleeps(seconds: u32) -> bool {
    let command = format!("sleep\0{seconds}\0");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|process| {
            std::fs::read(process.path().join("cmdline"))
                .is_ok_and(|found| found.ends_with(command.as_bytes()))
        })
}

/// A build whose step sleeps for a time that no other does, once that runs.
async fn sleeping(executor: DockerExecutor) -> (Running, u32) {
    let seconds = rand::random_range(1_000_000..2_000_000_000);
    let job = Job::fresh(&format!("RUN echo step is up; sleep {seconds}"));
    let mut running = with_buildkit(job).start(executor);
    // The step's own line, not its name: that has no time before it.
    while !running.rest_of_line(" step is ").await.starts_with("up") {}
    wait_until(|| sleeps(seconds), "the step does not run").await;
    (running, seconds)
}

#[tokio::test]
async fn a_cancelled_build_leaves_no_process() {
    needs_docker!("a_cancelled_build_leaves_no_process");
    let (executor, _) = engine().await;
    let (running, seconds) = sleeping(executor).await;
    running.cancel.cancel();
    let start = Instant::now();
    let (outcome, log) = running.end().await;
    assert_eq!(outcome, Outcome::Cancelled, "{log}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    assert!(!sleeps(seconds), "the step outlives its build");
}

#[tokio::test]
async fn a_cancelled_build_stops_sending_its_context() {
    needs_docker!("a_cancelled_build_stops_sending_its_context");
    let (executor, _) = engine().await;
    let job = with_buildkit(Job::fresh("COPY big /big"));
    let path = job.context.path().join("big");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    // A file that is being read has a second name among this process's open ones, even when it has been removed.
    let is_open = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut names = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        names.any(|name| {
            name.as_os_str()
                .as_bytes()
                .starts_with(path.as_os_str().as_bytes())
        })
    };
    let running = job.start(executor);
    wait_until(is_open, "the file is not sent").await;
    running.cancel.cancel();
    let (outcome, log) = running.end().await;
    assert_eq!(outcome, Outcome::Cancelled, "{log}");
    wait_until(|| !is_open(), "the file is still sent").await;
}

async fn wait_until(condition: impl Fn() -> bool, otherwise: &str) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_build_whose_worker_goes_away_ends_by_itself() {
    needs_docker!("a_build_whose_worker_goes_away_ends_by_itself");
    let (executor, _) = engine().await;
    let (running, seconds) = sleeping(executor).await;
    running.outcome.abort();
    wait_until(|| !sleeps(seconds), "the step outlives its worker").await;
}

#[tokio::test]
async fn an_engine_without_buildkit_is_told_from_a_broken_one() {
    let fake = FakeEngine::start(Build::Answer(vec![]));
    let (outcome, log) = with_buildkit(Job::new("FROM scratch\n"))
        .run(&fake.executor())
        .await;
    let sentence = "this worker's Docker engine does not offer BuildKit (404 Not Found): submit the job without --buildkit";
    assert_eq!(outcome, Failure::request(sentence).into());
    assert_eq!(log, "");
}

#[tokio::test]
async fn an_engine_killed_during_a_build_is_noticed_at_once() {
    needs_docker!("an_engine_killed_during_a_build_is_noticed_at_once");
    let mut engine = PrivateEngine::start().await;
    let mut running = start_sleeping(&engine);
    running.rest_of_line(" step is up").await;
    let start = Instant::now();
    engine.kill();
    let (outcome, log) = running.end().await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    assert_lost(&outcome, &engine.socket(), &log);
}

#[tokio::test]
async fn an_engine_stopped_during_a_build_is_to_blame() {
    needs_docker!("an_engine_stopped_during_a_build_is_to_blame");
    let mut engine = PrivateEngine::start().await;
    let mut running = start_sleeping(&engine);
    running.rest_of_line(" step is up").await;
    engine.terminate();
    let (outcome, log) = running.end().await;
    assert_lost(&outcome, &engine.socket(), &log);
}

/// A build that sleeps, on an engine without networks.
fn start_sleeping(engine: &PrivateEngine) -> Running {
    let limits = BuildLimits {
        network: Some("none".parse().unwrap()),
        ..BuildLimits::default()
    };
    let executor = DockerExecutor::new(DockerConfig {
        limits,
        ..engine.executor().config().clone()
    });
    let job = Job::fresh("RUN printf 'step is'; echo ' up'; sleep 1000");
    with_buildkit(job).start(executor)
}

fn assert_lost(outcome: &Outcome, socket: &Path, log: &str) {
    let Outcome::Failed(Failure {
        cause: Cause::Engine,
        message,
    }) = outcome
    else {
        panic!("{outcome:?}\n{log}")
    };
    let expected = format!(
        "lost the Docker engine at unix://{} during the build: ",
        socket.display()
    );
    assert!(message.starts_with(&expected), "{message}");
    assert!(
        message.ends_with("; submit the job again once the engine runs"),
        "{message}"
    );
}
