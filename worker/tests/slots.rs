//! When a worker asks for jobs: as long as there are slots, and again after a scheduler's error.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::process::Command;

use docker_support::pool::{Event, Pool, RunningWorker};
use ocluster_worker::Config;
use ocluster_worker::executor::Executors;
use ocluster_worker::weights::Weights;

/// A worker for test jobs, with two slots.
fn worker(pool: &Pool, weights: &[&str]) -> RunningWorker {
    let cap = pool.cap();
    let weights: Weights = weights.iter().map(|text| text.parse().unwrap()).collect();
    RunningWorker::start(move |state_dir| Config {
        capacity: 2,
        weights,
        executors: Executors {
            test_kind: true,
            ..Executors::default()
        },
        health_check: None,
        ..Config::new(cap, "w", state_dir)
    })
}

/// Sees that the worker asks for nothing, although it has had every occasion.
async fn asks_for_nothing(pool: &mut Pool) {
    for _ in 0..100 {
        pool.ping().await;
    }
    assert!(pool.nothing_happened());
}

#[tokio::test]
async fn d22_no_hint_makes_a_job_heavy_by_itself() {
    let mut pool = Pool::start();
    let _worker = worker(&pool, &[]);
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job_with_hint("tezos/octez-x86_64");
    // OCluster takes this for three slots, and would not ask for another.
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job_with_hint("tezos/octez-arm64");
    asks_for_nothing(&mut pool).await;
}

#[tokio::test]
async fn a_heavy_job_takes_several_slots_and_gives_them_back() {
    let mut pool = Pool::start();
    let _worker = worker(&pool, &["*heavy*=2"]);
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job_with_hint("a/heavy-one\nwith a plan");
    asks_for_nothing(&mut pool).await;
    pool.drop_jobs();
    // With one slot taken, it asks, not knowing what will come,
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job();
    assert_eq!(pool.next().await, Event::Asked);
    // and takes also what does not quite fit.
    pool.give_endless_job_with_hint("heavy");
    asks_for_nothing(&mut pool).await;
    assert_eq!(pool.jobs().await, 2);
    pool.drop_jobs();
    assert_eq!(pool.next().await, Event::Asked);
}

#[test]
fn a_weight_that_no_job_could_ever_fit_is_a_mistake_in_the_command_line() {
    let worker = Command::new(env!("CARGO_BIN_EXE_ocluster-worker"))
        .arg("capnp://insecure@127.0.0.1:9/c2VjcmV0")
        .args(["--name=w", "--state-dir=/nonexistent/state"])
        .args(["--capacity=2", "--weight=light=1", "--weight=*heavy*=3"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&worker.stderr);
    assert_eq!(worker.status.code(), Some(124), "{said}");
    assert!(
        said.contains("--weight=*heavy*=3 asks for more slots than this worker has"),
        "{said}"
    );
}

#[tokio::test]
async fn d19_a_worker_survives_a_scheduler_that_fails_its_requests_and_its_jobs_go_on() {
    let mut pool = Pool::start();
    let _worker = worker(&pool, &[]);
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job();
    // OCluster's worker dies of the first of these, and its jobs with it.
    for _ in 0..2 {
        assert_eq!(pool.next().await, Event::Asked);
        pool.refuse("database is locked");
    }
    assert_eq!(pool.next().await, Event::Asked);
    assert_eq!((pool.registrations(), pool.jobs().await), (1, 1));
    pool.give_endless_job();
    asks_for_nothing(&mut pool).await;
    assert_eq!(pool.jobs().await, 2);
}

#[tokio::test]
async fn d19_a_worker_that_is_refused_again_and_again_registers_anew() {
    let mut pool = Pool::start();
    let _worker = worker(&pool, &[]);
    for _ in 0..3 {
        assert_eq!(pool.next().await, Event::Asked);
        assert_eq!(pool.registrations(), 1);
        pool.refuse("Worker disconnected");
    }
    assert_eq!(pool.next().await, Event::Asked);
    assert_eq!(pool.registrations(), 2);
    pool.give_endless_job();
    assert_eq!(pool.next().await, Event::Asked);
    assert_eq!(pool.jobs().await, 1);
}
