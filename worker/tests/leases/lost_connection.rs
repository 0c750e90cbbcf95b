//! What becomes of jobs when the connection to the scheduler is lost, and when there is one again.

use std::time::Duration;

use crate::line::Line;
use crate::scheduler::{Event, Scheduler, Terms, Verdicts};
use crate::steered::job;
use crate::until;
use crate::worker::Worker;

/// A scheduler, a line to it, and a worker with two leased jobs, "a" and "b", with the numbers 7 and 8, which have printed "begun".
async fn two_jobs(change: impl FnOnce(&Line) -> Worker) -> (Scheduler, Line, Worker) {
    let mut scheduler = Scheduler::start();
    let line = Line::to(&scheduler.cap()).await;
    let worker = change(&line);
    assert_eq!(scheduler.joined().await, []);
    for (name, id) in [("a", 7), ("b", 8)] {
        scheduler.asked().await;
        scheduler.give_durable(job(name), id);
        worker.wheel.print(name, "begun");
        scheduler.log_until(id, 0, "begun\n").await;
    }
    (scheduler, line, worker)
}

/// Bytes of "Building on w" and "begun", each with a line feed.
const BEGUN: u64 = 20;

#[tokio::test]
async fn a_leased_job_outlives_the_connection_and_its_log_goes_on_at_the_right_byte() {
    let (mut scheduler, line, worker) = two_jobs(|line| Worker::start(&line.cap)).await;
    line.cut();
    worker.wheel.print("a", "alone");
    line.mend();
    let held = scheduler.joined().await;
    let alone = BEGUN + 6;
    assert!(
        held == [(7, 1, alone), (8, 1, BEGUN)] || held == [(7, 1, BEGUN), (8, 1, BEGUN)],
        "{held:?}"
    );
    assert_eq!(scheduler.log(7, BEGUN).await.unwrap(), "alone\n");
    worker.wheel.print("a", "together");
    assert_eq!(scheduler.log(7, alone).await.unwrap(), "together\n");
    worker.wheel.succeed("a", "made it");
    let outcome = scheduler.outcome(7).await.unwrap();
    assert_eq!((&*outcome.state, &*outcome.output), ("passed", "made it"));
    let log = scheduler.log_until(7, 0, "Job succeeded\n").await;
    assert_eq!(
        log,
        "Building on w\nbegun\nalone\ntogether\nJob succeeded\n"
    );
    assert_eq!(outcome.log_length, log.len() as u64);
    assert_eq!(scheduler.log(7, outcome.log_length).await.unwrap(), "");
    assert_eq!(worker.wheel.running(), 1);
}

#[tokio::test]
async fn an_outcome_that_came_meanwhile_is_delivered_when_the_worker_is_back() {
    let (mut scheduler, line, worker) = two_jobs(|line| Worker::start(&line.cap)).await;
    line.cut();
    worker.wheel.succeed("b", "sha256:b");
    until("the job ends", || worker.wheel.running() == 1).await;
    line.mend();
    let held = scheduler.joined().await;
    assert_eq!(held.len(), 2, "{held:?}");
    let outcome = scheduler.outcome(8).await.unwrap();
    assert_eq!((&*outcome.state, &*outcome.output), ("passed", "sha256:b"));
    assert_eq!(outcome.log_length, BEGUN + 14);
    assert_eq!(scheduler.log(8, BEGUN).await.unwrap(), "Job succeeded\n");
    assert_eq!(scheduler.result(8).await.unwrap(), "sha256:b");
    // One that has ended takes no slot.
    scheduler.asked().await;
}

#[tokio::test]
async fn a_job_that_the_scheduler_does_not_want_back_is_stopped_and_forgotten() {
    for verdicts in [Verdicts::Refuse("another worker has it"), Verdicts::None] {
        let (mut scheduler, line, worker) = two_jobs(|line| Worker::start(&line.cap)).await;
        scheduler.judge(verdicts).await;
        line.cut();
        line.mend();
        assert_eq!(scheduler.joined().await.len(), 2);
        scheduler.asked().await;
        until("the jobs stop", || worker.wheel.running() == 0).await;
        until("their logs go", || worker.spooled() == 0).await;
        // Should it think otherwise later, it does not hear that somebody cancelled the job.
        let outcome = scheduler.outcome(7).await.unwrap();
        assert_eq!((&*outcome.state, &*outcome.code), ("failed", "lease-over"));
        assert!(outcome.infrastructure);
        line.cut();
        line.mend();
        assert_eq!(scheduler.joined().await, []);
    }
}

#[tokio::test]
async fn without_a_scheduler_jobs_go_on_for_the_grace_and_are_then_cancelled_and_forgotten() {
    let grace = Duration::from_millis(700);
    let (mut scheduler, line, worker) =
        two_jobs(|line| Worker::start_with_grace(&line.cap, grace)).await;
    worker.wheel.succeed("a", "");
    until("the job ends", || worker.wheel.running() == 1).await;
    scheduler.asked().await;
    line.cut();
    let cut = std::time::Instant::now();
    until("the other is cancelled", || worker.wheel.running() == 0).await;
    assert!(cut.elapsed() >= grace, "{:?}", cut.elapsed());
    until("the logs go", || worker.spooled() == 0).await;
    line.mend();
    assert_eq!(scheduler.joined().await, []);
}

#[tokio::test]
async fn without_a_grace_jobs_are_cancelled_with_the_connection() {
    let (mut scheduler, line, worker) =
        two_jobs(|line| Worker::start_with_grace(&line.cap, Duration::ZERO)).await;
    line.cut();
    until("the jobs stop", || worker.wheel.running() == 0).await;
    line.mend();
    assert_eq!(scheduler.joined().await, []);
}

#[tokio::test]
async fn an_attached_job_is_cancelled_with_the_connection_and_when_it_is_released() {
    let mut scheduler = Scheduler::start();
    let line = Line::to(&scheduler.cap()).await;
    let worker = Worker::start(&line.cap);
    scheduler.joined().await;
    for (name, id) in [("a", 7), ("b", 8)] {
        scheduler.asked().await;
        scheduler.give(job(name), Terms::Attached { id });
    }
    until("both run", || worker.wheel.running() == 2).await;
    // To settle a job that nobody leased is nothing.
    scheduler.settle(7).await.unwrap();
    scheduler.release(8).await;
    until("the released one stops", || worker.wheel.running() == 1).await;
    scheduler.asked().await;
    line.cut();
    until("the other stops", || worker.wheel.running() == 0).await;
    until("the logs go", || worker.spooled() == 0).await;
    line.mend();
    assert_eq!(scheduler.joined().await, []);
}

#[tokio::test]
async fn a_leased_job_does_not_mind_being_released() {
    let (mut scheduler, line, worker) = two_jobs(|line| Worker::start(&line.cap)).await;
    scheduler.release(7).await;
    scheduler.release(8).await;
    worker.wheel.succeed("b", "");
    // The worker has heard of the releases, which came before.
    scheduler.asked().await;
    assert_eq!(worker.wheel.running(), 1);
    line.cut();
    line.mend();
    assert_eq!(scheduler.joined().await.len(), 2);
}

#[tokio::test]
async fn a_scheduler_without_leases_has_all_as_before() {
    let mut scheduler = Scheduler::start_without_leases();
    let line = Line::to(&scheduler.cap()).await;
    let worker = Worker::start(&line.cap);
    for _ in 0..2 {
        assert_eq!(scheduler.next().await, Event::Registered);
        scheduler.asked().await;
        scheduler.give(job("a"), Terms::Attached { id: 7 });
        scheduler.asked().await;
        until("it runs", || worker.wheel.running() == 1).await;
        line.cut();
        until("it stops", || worker.wheel.running() == 0).await;
        line.mend();
    }
    assert_eq!(scheduler.next().await, Event::Registered);
}

#[tokio::test]
async fn slots_are_held_through_lost_connections_so_that_there_are_never_too_many_jobs() {
    let (mut scheduler, line, worker) = two_jobs(|line| Worker::start(&line.cap)).await;
    scheduler.give_durable(job("c"), 9);
    for _ in 0..2 {
        line.cut();
        line.mend();
        assert_eq!(scheduler.joined().await.len(), 2);
        // It answers, and asks for nothing.
        assert_eq!(scheduler.log(7, 0).await.unwrap().len() as u64, BEGUN);
        assert!(scheduler.nothing_happened());
    }
    worker.wheel.succeed("a", "");
    scheduler.asked().await;
    until("the next one runs", || worker.wheel.running() == 2).await;
    assert_eq!(scheduler.outcome(7).await.unwrap().state, "passed");
    assert!(scheduler.nothing_happened());
    assert_eq!(worker.wheel.most(), 2);
}

#[tokio::test]
async fn a_worker_that_was_restarted_has_no_jobs_and_is_the_same_worker() {
    let mut scheduler = Scheduler::start();
    let cap = scheduler.cap();
    let worker = Worker::start(&cap);
    let first = scheduler.next().await;
    let Event::Joined {
        identity, kinds, ..
    } = &first
    else {
        panic!("{first:?}")
    };
    assert_eq!(identity.len(), 32);
    assert_eq!(kinds[..], ["custom:steered", "custom:test"]);
    scheduler.asked().await;
    scheduler.give_durable(job("a"), 7);
    scheduler.asked().await;
    until("it runs", || worker.wheel.running() == 1).await;
    let _worker = tokio::task::spawn_blocking(move || worker.restart(&cap))
        .await
        .unwrap();
    assert_eq!(scheduler.next().await, first);
}
