//! A worker's death is noticed within 15 seconds, even when nothing says so: its host vanished, or its process stands still.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Client, Cluster, ClusterOptions, Dockerfile, NetNs, Process, SOON, Story, Submission, Worker,
    WorkerOptions,
};

/// The promise.
const NOTICED: Duration = Duration::from_secs(15);

/// Longer than the promise, so that a broken one is measured and not just missed.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_worker_whose_host_vanishes_is_noticed_within_15_seconds_and_its_queue_moves_on() -> Result<()>
{
    Story::tell(&["docker", "netns"], |story| {
        // Given a busy worker on a host of its own, and an idle one here,
        let network = NetNs::new()?;
        let mut cluster = Cluster::start_with(story, reachable_at(network.host_address()))?;
        let mut near = cluster.add_worker("near")?;
        cluster.admin(&["pause", "linux", "near"])?.success()?;
        let cap = cluster.secret("pool-linux.cap");
        let mut far = Worker::start_within(story, &network, WorkerOptions::named("far"), &cap)?;
        cluster.wait_until_registered("far", 0)?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let lost = Dockerfile::from(&base).gate();
        let mut lost_job =
            alice.start_to_the_gate(&Submission::of(&lost).hint("cached-far-away"))?;
        cluster.admin(&["unpause", "linux", "near"])?.success()?;
        cluster.wait_for_show("linux", "near to be ready", SOON, |show| {
            show.contains("queue: (ready) [near]")
        })?;
        ensure!(Client::worker_in(&lost_job.log())? == "far");
        // and a job that waits for the one far away, where its cache is.
        let next = Dockerfile::from(&base).step("RUN echo moved on");
        let mut moved_job = alice.start(&Submission::of(&next).hint("cached-far-away"))?;
        cluster.wait_for_show("linux", "the job to wait for far", SOON, |show| {
            show.lines().any(|line| {
                line.trim_start().starts_with("far (") && line.contains("cached-far-away")
            })
        })?;

        // When that host vanishes,
        network.cut()?;
        let noticed = time_until_lost(&mut lost_job)?;

        // then its job's client hears of it in time,
        ensure!(noticed <= NOTICED, "noticed after {noticed:?}");
        // the worker is known to be gone,
        cluster.wait_for_show("linux", "far to be gone", SOON, |show| {
            disconnected(show, "far")
        })?;
        // and the job that waited for it is done here.
        ensure!(moved_job.wait_exit(SOON)?.success(), "{}", moved_job.log());
        ensure!(Client::worker_in(&moved_job.log())? == "near");

        // Its name is free for another machine,
        let other = WorkerOptions::named("far").state("another-machine");
        let mut other = cluster
            .add_worker_with(other)
            .context("the name could not be used again")?;
        // which the old one cannot push aside when its host is back.
        network.mend()?;
        far.process().wait_for_log("Worker already registered!")?;
        ensure!(other.process().is_running()? && near.process().is_running()?);
        cluster.admin(&["pause", "linux", "near"])?.success()?;
        let after = Dockerfile::from(&base).step("RUN echo after");
        let after = alice.submit(&Submission::of(&after))?.success()?;
        ensure!(Client::worker_in(&after.stdout)? == "far");
        // What it was building is stopped: nobody wants it any more.
        story.engine()?.wait_until_gone(&lost)
    })
}

#[test]
fn a_worker_that_stands_still_is_noticed_and_does_no_harm_when_it_goes_on() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker in the middle of a job, and a job that waits,
        let mut cluster = Cluster::start(story)?;
        let mut stuck = cluster.add_worker("stuck")?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let running = Dockerfile::from(&base).gate();
        let mut job = alice.start_to_the_gate(&Submission::of(&running))?;
        let next = Dockerfile::from(&base).step("RUN echo moved on");
        let mut waiting = alice.start(&Submission::of(&next).hint("waiting"))?;
        cluster.wait_for_show("linux", "the second job to wait", SOON, |show| {
            show.contains("alice:waiting@")
        })?;

        // when it stands still,
        stuck.process().freeze()?;
        let noticed = time_until_lost(&mut job)?;

        // then its client hears of it in time,
        ensure!(noticed <= NOTICED, "noticed after {noticed:?}");
        cluster.wait_for_show("linux", "stuck to be gone", SOON, |show| {
            disconnected(show, "stuck")
        })?;
        // and another worker does what waited.
        let _other = cluster.add_worker("other")?;
        ensure!(waiting.wait_exit(SOON)?.success(), "{}", waiting.log());

        // When it goes on, it drops what nobody wants any more,
        let before = cluster.registrations("stuck")?;
        stuck.process().thaw()?;
        story.engine()?.wait_until_gone(&running)?;
        // comes back under its name,
        cluster.wait_until_registered("stuck", before)?;
        // and works.
        cluster.admin(&["pause", "linux", "other"])?.success()?;
        let after = Dockerfile::from(&base).step("RUN echo after");
        let after = alice.submit(&Submission::of(&after))?.success()?;
        ensure!(Client::worker_in(&after.stdout)? == "stuck");
        Ok(())
    })
}

#[test]
fn a_second_worker_of_the_same_name_is_refused_while_the_first_answers() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a worker,
        let mut cluster = Cluster::start(story)?;
        let mut first = cluster.add_worker("w1")?;
        // when a stranger takes its name,
        let mut stranger = cluster.start_worker(WorkerOptions::named("w1").state("stranger"))?;
        // then he is told so, and the first stays.
        stranger
            .process()
            .wait_for_log("Worker already registered!")?;
        ensure!(cluster.registrations("w1")? == 1 && first.process().is_running()?);
        ensure!(cluster.show("linux")?.contains("w1 ("));
        Ok(())
    })
}

#[test]
fn a_worker_that_starts_again_takes_the_place_of_its_ghost_within_15_seconds() -> Result<()> {
    Story::tell(&["netns"], |story| {
        // Given a worker whose connection has gone silent without being closed,
        let network = NetNs::new()?;
        let mut cluster = Cluster::start_with(story, reachable_at(network.host_address()))?;
        let cap = cluster.secret("pool-linux.cap");
        let mut worker = Worker::start_within(story, &network, WorkerOptions::named("w1"), &cap)?;
        cluster.wait_until_registered("w1", 0)?;
        network.cut()?;
        worker.process().kill()?;
        // when it starts again, elsewhere but with its state directory,
        let start = Instant::now();
        let _worker = cluster.start_worker(WorkerOptions::named("w1"))?;
        // then it is let in as soon as its ghost has failed to answer.
        cluster.wait_until_registered("w1", 1)?;
        ensure!(start.elapsed() <= NOTICED, "it took {:?}", start.elapsed());
        Ok(())
    })
}

/// Options for a scheduler that hosts with a network of their own can reach. The policy is the one under which a job stays in a
/// busy worker's queue until that worker takes it or is lost.
fn reachable_at(address: &str) -> ClusterOptions {
    ClusterOptions {
        public_host: Some(address.to_owned()),
        flags: vec!["--scheduling=upstream".to_owned()],
        ..ClusterOptions::default()
    }
}

/// Waits until a job's client has ended because the worker is lost, and says how long that took.
fn time_until_lost(job: &mut Process) -> Result<Duration> {
    let start = Instant::now();
    let status = job.wait_exit(PATIENCE)?;
    let elapsed = start.elapsed();
    ensure!(
        status.code() == Some(1),
        "the client ended with {status}:\n{}",
        job.log()
    );
    ensure!(
        job.log().contains("Disconnected: "),
        "the client said:\n{}",
        job.log()
    );
    Ok(elapsed)
}

/// Whether `show` lists the worker below `disconnected:`.
fn disconnected(show: &str, name: &str) -> bool {
    show.split_once("disconnected:")
        .is_some_and(|(_, rest)| rest.lines().any(|line| line.trim() == name))
}
