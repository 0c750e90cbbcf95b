//! Builds with the BuildKit of the machine's real engine.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use docker_support::{BASE, Job, engine, nonce};
use ocluster_api::Dockerfile;
use ocluster_worker::executor::{Cause, DockerConfig, DockerExecutor, Failure, Outcome};

fn succeeded() -> Outcome {
    Outcome::Succeeded {
        output: String::new(),
    }
}

fn buildkit(mut job: Job) -> Job {
    job.build.buildkit = true;
    job
}

#[tokio::test]
async fn a_build_prints_plain_lines() {
    needs_docker!("a_build_prints_plain_lines");
    let (executor, _) = engine().await;
    let job = buildkit(Job::fresh("RUN echo out; printf 'no line end'\nRUN echo err >&2"));
    let (outcome, log) = job.run(&executor).await;
    println!("{log}");
    assert_eq!(outcome, succeeded(), "{log}");
}

#[tokio::test]
async fn a_failed_step_ends_the_build() {
    needs_docker!("a_failed_step_ends_the_build");
    let (executor, _) = engine().await;
    let job = buildkit(Job::fresh("RUN echo oh dear; exit 7\nRUN echo never"));
    let (outcome, log) = job.run(&executor).await;
    println!("{log}");
    assert_eq!(
        outcome,
        Failure::build("docker-build failed with exit-code 1").into()
    );
}

#[tokio::test]
async fn a_cancelled_build_leaves_no_process() {
    needs_docker!("a_cancelled_build_leaves_no_process");
    let (executor, _) = engine().await;
    let seconds = 100_000 + rand::random::<u32>() % 100_000;
    let job = buildkit(Job::fresh(&format!("RUN echo step is up; sleep {seconds}")));
    let mut running = job.start(executor);
    running.rest_of_line("step is ").await;
    println!("{}", String::from_utf8_lossy(&running.log.borrow()));
    let line = format!("sleep\0{seconds}\0");
    let alive = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            std::fs::read(process.path().join("cmdline")).is_ok_and(|cmd| cmd.ends_with(line.as_bytes()))
        })
    };
    let t = std::time::Instant::now();
    while !alive() { assert!(t.elapsed().as_secs() < 60); tokio::time::sleep(std::time::Duration::from_millis(20)).await; }
    running.cancel.cancel();
    let t = std::time::Instant::now();
    let (outcome, log) = running.end().await;
    println!("took {:?}\n{log}", t.elapsed());
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(!alive());
}
