//! What a scheduler still knows after it was killed and started again, and who comes back to it by himself.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use ocluster_tests::{Client, Cluster, Dockerfile, SOON, Story, Submission};

/// A worker comes back within its retry interval, 10 seconds, and then some.
const BACK: Duration = Duration::from_secs(60);

#[test]
fn a_killed_scheduler_comes_back_with_the_same_caps_clients_rates_pauses_and_hints() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a cluster with two workers, of which each has the cache of one hint,
        let mut cluster = Cluster::start(story)?;
        let mut workers = [cluster.add_worker("w1")?, cluster.add_worker("w2")?];
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let on = |client: &Client<'_>, hint: &str| -> Result<String> {
            let dockerfile = Dockerfile::from(&base).step("RUN echo built");
            Client::worker_in(
                &client
                    .submit(&Submission::of(&dockerfile).hint(hint))?
                    .success()?
                    .stdout,
            )
        };
        for (paused, hint, builder) in [("w2", "one", "w1"), ("w1", "two", "w2")] {
            cluster.admin(&["pause", "linux", paused])?.success()?;
            ensure!(on(&alice, hint)? == builder);
            cluster.admin(&["unpause", "linux", paused])?.success()?;
        }
        // a rate, and two pauses: of a connected worker, and of one that has never been seen.
        cluster
            .admin(&["set-rate", "linux", "alice", "7"])?
            .success()?;
        cluster.admin(&["pause", "linux", "w2"])?.success()?;
        cluster
            .admin(&["pause", "linux", "w3", "--auto-create"])?
            .success()?;
        let caps_before = caps(&cluster)?;

        // When the scheduler is killed and started again,
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;

        // then its caps are the same ones,
        ensure!(caps(&cluster)? == caps_before, "the caps changed");
        // the workers come back by themselves, the same processes as before,
        cluster.wait_until_registered("w1", 0)?;
        cluster.wait_until_registered("w2", 0)?;
        for worker in &mut workers {
            ensure!(
                worker.process().is_running()?,
                "{} did not survive",
                worker.name()
            );
        }
        // the pauses hold,
        let show = cluster.wait_for_show("linux", "the pauses", BACK, |show| {
            show.contains("w2 (") && show.contains("w3")
        })?;
        ensure!(
            line_of(&show, "w2 (").contains("(inactive: admin pause)"),
            "w2 was paused:\n{show}"
        );
        ensure!(
            line_of(&show, "w3").trim() == "w3 (paused)",
            "w3 was paused:\n{show}"
        );
        // the clients are known,
        ensure!(cluster.admin(&["list-clients"])?.success()?.stdout == "alice\n");
        // and each hint finds its worker, with the old cap.
        cluster.admin(&["unpause", "linux", "w2"])?.success()?;
        for (hint, builder) in [("two", "w2"), ("one", "w1"), ("one", "w1"), ("two", "w2")] {
            cluster.wait_for_show("linux", "both workers to be ready", SOON, |show| {
                let ready = line_of(show, "queue: (ready)");
                ready.contains("w1") && ready.contains("w2")
            })?;
            let worker = on(&alice, hint)?;
            ensure!(worker == builder, "{hint} went to {worker}");
        }
        // The rate shows once she has been seen.
        let show = cluster.show("linux")?;
        ensure!(show.contains("alice(7)"), "alice's rate was 7:\n{show}");
        Ok(())
    })
}

#[test]
fn a_removed_client_stays_removed_and_an_unpaused_worker_unpaused() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a client that was added and removed, and a worker that was paused and unpaused,
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker("w1")?;
        let mallory = cluster.add_client("mallory")?;
        cluster.admin(&["remove-client", "mallory"])?.success()?;
        cluster.admin(&["pause", "linux", "w1"])?.success()?;
        cluster.admin(&["unpause", "linux", "w1"])?.success()?;
        // when the scheduler is killed and started again,
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;
        cluster.wait_until_registered("w1", 0)?;
        // then so it is still.
        let refusal = mallory.submit(&Submission::of_text("FROM scratch\n"))?;
        refusal
            .exits_with(1)?
            .fails_saying(&["Unknown persistent service ID"])?;
        ensure!(
            cluster
                .admin(&["show", "linux", "w1", "--terse"])?
                .success()?
                .stdout
                == "Running\n"
        );
        Ok(())
    })
}

#[test]
fn when_the_scheduler_dies_running_jobs_end_with_a_clear_word_and_waiting_ones_are_submitted_again()
-> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given one job that runs and one that waits,
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).gate();
        let mut running = alice.start_to_the_gate(&Submission::of(&dockerfile))?;
        let mut waiting = alice.start(&Submission::of(&dockerfile).hint("waiting"))?;
        cluster.wait_for_show("linux", "the second job to wait", SOON, |show| {
            show.contains("alice:waiting@")
        })?;
        // when the scheduler is killed,
        cluster.kill_scheduler()?;
        // then the client of the running job is told that it is lost, and the other one will submit its job again,
        let status = running.wait_exit(SOON)?;
        ensure!(status.code() == Some(1), "the client ended with {status}");
        ensure!(
            running.log().contains("Error tailing logs: Disconnected: "),
            "the client said:\n{}",
            running.log()
        );
        waiting.wait_for_log("while the job was queued. Will submit it again in ")?;
        // the build, which nobody wants any more, is stopped,
        story.engine()?.wait_until_gone(&dockerfile)?;
        // and the worker is there for the next scheduler.
        cluster.restart_scheduler()?;
        cluster.wait_until_registered("w1", 0)?;
        ensure!(worker.process().is_running()?);
        // which the waiting client finds by itself.
        story.engine()?.open_gate(&dockerfile)?;
        let status = waiting.wait_exit(SOON)?;
        ensure!(
            status.code() == Some(0),
            "the client ended with {status}:\n{}",
            waiting.log()
        );
        let next = Dockerfile::from(&story.base_image()?).step("RUN echo next");
        alice.submit(&Submission::of(&next))?.success()?;
        Ok(())
    })
}

#[test]
fn a_scheduler_that_is_asked_to_stop_does_so_in_order() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        // When the scheduler gets SIGTERM, it ends with exit code 0,
        cluster.stop_scheduler()?;
        // and its worker looks for the next.
        worker
            .process()
            .wait_for_log("Lost connection to scheduler")?;
        cluster.restart_scheduler()?;
        cluster.wait_until_registered("w1", 0)
    })
}

/// What the scheduler wrote into its cap files.
fn caps(cluster: &Cluster<'_>) -> Result<[String; 2]> {
    Ok([
        fs::read_to_string(cluster.secret("admin.cap"))?,
        fs::read_to_string(cluster.secret("pool-linux.cap"))?,
    ])
}

/// The line of `show` that begins with `start`, after its indentation.
fn line_of<'a>(show: &'a str, start: &str) -> &'a str {
    show.lines()
        .find(|line| line.trim_start().starts_with(start))
        .unwrap_or("")
}
