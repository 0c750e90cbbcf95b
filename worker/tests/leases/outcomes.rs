//! How a job ended, as the scheduler hears it, and when a worker forgets it.

use std::time::Duration;

use ocluster_api::{Action, JobSpec, TestStep, test_job};

use crate::scheduler::{Outcome, Scheduler, Terms};
use crate::steered::job;
use crate::until;
use crate::worker::Worker;

async fn scheduler_and_worker() -> (Scheduler, Worker) {
    let mut scheduler = Scheduler::start();
    let worker = Worker::start(&scheduler.cap());
    assert_eq!(scheduler.joined().await, []);
    scheduler.asked().await;
    (scheduler, worker)
}

fn test_spec(steps: &[TestStep]) -> JobSpec {
    JobSpec {
        action: Action::Custom(test_job(steps).unwrap()),
        cache_hint: String::new(),
        source: None,
        secrets: vec![],
    }
}

#[tokio::test]
async fn an_outcome_says_why_and_whether_it_is_worth_trying_elsewhere() {
    let (mut scheduler, _worker) = scheduler_and_worker().await;
    let long = "x".repeat(2000);
    for (id, step, code, sentence, infrastructure) in [
        (
            1,
            TestStep::Exit(3),
            "build-failed",
            "test job exited with code 3",
            false,
        ),
        (
            2,
            TestStep::FailSetup("no\nroom".into()),
            "worker-setup",
            "no room",
            true,
        ),
        (
            3,
            TestStep::FailSetup(long.clone()),
            "worker-setup",
            "xx",
            true,
        ),
    ] {
        scheduler.give_durable(test_spec(&[TestStep::Print("hello".into()), step]), id);
        let outcome = scheduler_outcome(&mut scheduler, id).await;
        let log = scheduler.log(id, 0).await.unwrap();
        assert!(log.starts_with("Building on w\nhello\n"), "{log}");
        assert_eq!(outcome.log_length, log.len() as u64);
        assert_eq!(
            (&*outcome.state, &*outcome.code, outcome.infrastructure),
            ("failed", code, infrastructure)
        );
        assert!(outcome.sentence.starts_with(sentence), "{outcome:?}");
        assert!(outcome.sentence.len() <= 1024);
        assert!(
            scheduler
                .result(id)
                .await
                .unwrap_err()
                .contains("Build failed")
        );
        scheduler.settle(id).await.unwrap();
    }
}

/// The outcome of the job that was given, when the worker has asked for the next one, too.
async fn scheduler_outcome(scheduler: &mut Scheduler, id: u64) -> Outcome {
    scheduler.asked().await;
    scheduler.outcome(id).await.unwrap()
}

#[tokio::test]
async fn a_cancelled_job_says_so_and_is_kept_until_it_is_settled() {
    let (mut scheduler, worker) = scheduler_and_worker().await;
    scheduler.give_durable(job("a"), 7);
    scheduler.asked().await;
    scheduler.cancel(7).await.unwrap();
    let outcome = scheduler.outcome(7).await.unwrap();
    assert_eq!(
        (&*outcome.state, outcome.infrastructure),
        ("cancelled", false)
    );
    assert_eq!(
        scheduler.log(7, 0).await.unwrap(),
        "Building on w\nJob cancelled\n"
    );
    until("its log is on the disk", || worker.spooled() == 1).await;
    scheduler.settle(7).await.unwrap();
    until("its log goes", || worker.spooled() == 0).await;
    let error = scheduler.log(7, 0).await.unwrap_err();
    assert!(
        error.contains("the worker has forgotten this job"),
        "{error}"
    );
    // Once more is nothing.
    scheduler.settle(7).await.unwrap();
}

#[tokio::test]
async fn to_settle_a_job_that_runs_is_to_stop_it() {
    let (mut scheduler, worker) = scheduler_and_worker().await;
    scheduler.give_durable(job("a"), 7);
    scheduler.asked().await;
    until("it runs", || worker.wheel.running() == 1).await;
    scheduler.settle(7).await.unwrap();
    until("it stops", || worker.wheel.running() == 0).await;
    until("its log goes", || worker.spooled() == 0).await;
}

#[tokio::test]
async fn a_job_given_again_takes_the_place_of_the_attempt_before() {
    let (mut scheduler, worker) = scheduler_and_worker().await;
    scheduler.give(job("a"), Terms::Durable { id: 7, attempt: 1 });
    scheduler.asked().await;
    worker.wheel.print("a", "first");
    scheduler.log_until(7, 0, "first\n").await;
    scheduler.give(job("b"), Terms::Durable { id: 7, attempt: 2 });
    scheduler.asked().await;
    worker.wheel.print("b", "second");
    scheduler.log_until(7, 0, "second\n").await;
    until("the first stops", || worker.wheel.running() == 1).await;
    worker.wheel.succeed("b", "second");
    assert_eq!(scheduler.outcome(7).await.unwrap().output, "second");
}

#[tokio::test]
async fn a_worker_that_stops_says_that_its_jobs_are_to_be_done_elsewhere() {
    let (mut scheduler, mut worker) = scheduler_and_worker().await;
    scheduler.give_durable(job("a"), 7);
    scheduler.asked().await;
    scheduler.give(job("b"), Terms::Attached { id: 8 });
    until("they run", || worker.wheel.running() == 2).await;
    let start = std::time::Instant::now();
    worker.tell_to_stop();
    let outcome = scheduler.outcome(7).await.unwrap();
    assert_eq!(
        (&*outcome.state, &*outcome.code, outcome.infrastructure),
        ("failed", "worker-stopped", true)
    );
    let log = scheduler.log(7, 0).await.unwrap();
    assert_eq!(outcome.log_length, log.len() as u64);
    scheduler.settle(7).await.unwrap();
    worker.stopped().await;
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(worker.wheel.running(), 0);
}

#[tokio::test]
async fn a_worker_that_stops_does_not_wait_long_for_a_scheduler_that_settles_nothing() {
    let (mut scheduler, mut worker) = scheduler_and_worker().await;
    scheduler.give_durable(job("a"), 7);
    scheduler.asked().await;
    let start = std::time::Instant::now();
    worker.tell_to_stop();
    worker.stopped().await;
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(worker.wheel.running(), 0);
}
