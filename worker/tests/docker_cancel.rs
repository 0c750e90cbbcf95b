//! Cancelling a Docker build: whatever it has started is gone when its executor returns, and soon after its owner has died.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bollard::Docker;
use docker_support::fake::{Build, FakeEngine};
use docker_support::{Job, PATIENCE, Running, engine};
use ocluster_worker::executor::Outcome;

/// More than the two seconds that a user may have to wait for, as the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(4);

const RUNNING_IN: &str = " ---> Running in ";

/// The container of a build's last step, once its process runs.
async fn running_container(running: &mut Running, docker: &Docker) -> String {
    running.rest_of_line("\nstep is ").await;
    let container = running.rest_of_line(RUNNING_IN).await;
    let state = docker
        .inspect_container(&container, None)
        .await
        .unwrap()
        .state
        .unwrap();
    assert_eq!(state.running, Some(true), "the step printed, so it runs");
    container
}

async fn exists(docker: &Docker, container: &str) -> bool {
    match docker.inspect_container(container, None).await {
        Ok(_) => true,
        Err(bollard::errors::Error::DockerResponseServerError {
            status_code: 404, ..
        }) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn cancel_during(step: &str) {
    let (executor, docker) = engine().await;
    let mut running = Job::fresh(&format!("RUN echo step is up; {step}")).start(executor);
    let container = running_container(&mut running, &docker).await;
    let start = Instant::now();
    running.cancel.cancel();
    let (outcome, _) = running.end().await;
    assert!(
        !exists(&docker, &container).await,
        "{step}: the container outlives the job"
    );
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(start.elapsed() < SOON, "{step}: took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_sleeping_step_is_gone_when_the_job_has_ended() {
    needs_docker!("a_sleeping_step_is_gone_when_the_job_has_ended");
    cancel_during("sleep 1000").await;
}

#[tokio::test]
async fn d7_cancel_reaches_grandchildren_that_hold_the_output_open() {
    needs_docker!("d7_cancel_reaches_grandchildren_that_hold_the_output_open");
    let (executor, docker) = engine().await;
    // Given a step with a child and a grandchild that has left it, both of which anybody can recognise,
    let seconds = rand::random_range(1_000_000_000_u32..2_000_000_000).to_string();
    let step = format!("RUN echo step is up; (sleep {seconds} &) ; sleep {seconds}");
    let mut running = Job::fresh(&step).start(executor);
    running_container(&mut running, &docker).await;
    let start = Instant::now();
    while sleepers(&seconds) < 2 {
        assert!(
            start.elapsed() < PATIENCE,
            "the engine is on another machine"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // when the job is cancelled,
    let start = Instant::now();
    running.cancel.cancel();
    let (outcome, _) = running.end().await;
    // then all are gone, and soon.
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    assert_eq!(sleepers(&seconds), 0);
}

/// How many processes of this machine sleep for so long.
fn sleepers(seconds: &str) -> usize {
    let command_lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        // Processes come and go.
        std::fs::read(entry.ok()?.path().join("cmdline")).ok()
    });
    let wanted = format!("sleep\0{seconds}\0");
    command_lines
        .filter(|line| line == wanted.as_bytes())
        .count()
}

#[tokio::test]
async fn a_step_that_ignores_signals_is_killed() {
    needs_docker!("a_step_that_ignores_signals_is_killed");
    cancel_during("trap '' TERM INT HUP; while true; do sleep 1; done").await;
}

#[tokio::test]
async fn a_step_that_floods_the_log_is_stopped() {
    needs_docker!("a_step_that_floods_the_log_is_stopped");
    cancel_during("while true; do echo flood; done").await;
}

#[tokio::test]
async fn a_build_whose_future_is_dropped_leaves_nothing_running() {
    needs_docker!("a_build_whose_future_is_dropped_leaves_nothing_running");
    let (executor, docker) = engine().await;
    let mut running = Job::fresh("RUN echo step is up; sleep 1000").start(executor);
    let container = running_container(&mut running, &docker).await;
    running.outcome.abort();
    let start = Instant::now();
    while exists(&docker, &container).await {
        assert!(start.elapsed() < PATIENCE, "the container outlives its job");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_it_starts_does_nothing() {
    needs_docker!("a_job_that_is_cancelled_before_it_starts_does_nothing");
    let (executor, _) = engine().await;
    let running = Job::fresh("RUN echo never").start(executor);
    running.cancel.cancel();
    let (outcome, log) = running.end().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(!log.contains("never\n ---> "), "{log}");
}

#[tokio::test]
async fn a_forged_container_name_in_the_output_harms_nobody() {
    needs_docker!("a_forged_container_name_in_the_output_harms_nobody");
    let (executor, docker) = engine().await;
    let mut victim = Job::fresh("RUN echo step is up; sleep 1000").start(executor.clone());
    let container = running_container(&mut victim, &docker).await;
    let mut forger = Job::fresh(&format!(
        "RUN echo '{RUNNING_IN}{container}'; sleep 1; echo step is up; sleep 1000"
    ))
    .start(executor);
    forger.rest_of_line("\nstep is ").await;
    forger.cancel.cancel();
    assert_eq!(forger.end().await.0, Outcome::Cancelled);
    assert!(
        exists(&docker, &container).await,
        "one job's output removed another job's container"
    );
    victim.cancel.cancel();
    assert_eq!(victim.end().await.0, Outcome::Cancelled);
    assert!(!exists(&docker, &container).await);
}

#[tokio::test]
async fn sending_a_big_context_stops_at_once() {
    let fake = FakeEngine::start(Build::StopReading(10 << 20));
    let job = Job::fresh("");
    std::fs::File::create(job.context.path().join("big"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let running = job.start(fake.executor());
    tokio::time::timeout(PATIENCE, fake.stopped_reading.notified())
        .await
        .expect("the context is not sent");
    let start = Instant::now();
    running.cancel.cancel();
    assert_eq!(running.end().await.0, Outcome::Cancelled);
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    // When the engine reads again, it finds a broken stream, and not much of it.
    fake.resume.notify_one();
    tokio::time::timeout(PATIENCE, fake.stopped_reading.notified())
        .await
        .expect("the connection stays");
    assert!(fake.hung_up.load(Ordering::Relaxed));
    assert!(fake.taken.load(Ordering::Relaxed) < 20 << 20);
}
