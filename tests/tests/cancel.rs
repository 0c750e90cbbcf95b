//! Jobs that are not wanted any more: they stop, wherever they are, and nothing of them is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ocluster_tests::{
    Cluster, Dockerfile, GitDaemon, Repository, SOON, Story, Submission, unique, wait_for,
};

/// How long a client may take to end after it was asked to.
const PROMPT: Duration = Duration::from_secs(10);

#[test]
fn a_client_that_is_killed_in_the_middle_cancels_its_job() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        // Given a running job, however its client is made to go:
        for how in ["SIGKILL", "SIGTERM", "SIGINT"] {
            let dockerfile = Dockerfile::from(&base).gate();
            let mut job = alice.start_to_the_gate(&Submission::of(&dockerfile))?;
            match how {
                "SIGKILL" => job.kill()?,
                "SIGTERM" => drop(job.terminate(PROMPT)?),
                _ => {
                    job.interrupt()?;
                    job.wait_exit(PROMPT)?;
                }
            }
            // the build stops, and the worker is free again.
            story.engine()?.wait_until_gone(&dockerfile)?;
            cluster.wait_for_show("linux", "the worker to be free", SOON, |show| {
                show.contains("(0 running)") && show.contains("queue: (ready) [w1]")
            })?;
            wait_for("the context to be gone", SOON, || {
                Ok(worker.temporary_files().is_empty().then_some(()))
            })?;
        }
        // Then the next job finds everything in order.
        ensure!(worker.process().is_running()?);
        let next = Dockerfile::from(&base).step("RUN echo next");
        alice.submit(&Submission::of(&next))?.success()?;
        Ok(())
    })
}

#[test]
fn a_job_that_is_over_leaves_no_files_on_its_worker() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let good = Dockerfile::from(&base).step("RUN echo one");
        alice.submit(&Submission::of(&good))?.success()?;
        let bad = Dockerfile::from(&base).step("RUN false");
        alice.submit(&Submission::of(&bad))?.exits_with(1)?;
        wait_for("the worker's files to be gone", SOON, || {
            let left = (worker.temporary_files(), worker.spooled_logs());
            Ok((left == (Vec::new(), Vec::new())).then_some(()))
        })
    })
}

#[test]
fn a_job_that_is_cancelled_while_it_waits_never_runs() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a busy worker, and a job that waits for it,
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let bob = cluster.add_client("bob")?;
        let base = story.base_image()?;
        let busy = Dockerfile::from(&base).gate();
        let mut job = alice.start_to_the_gate(&Submission::of(&busy))?;
        let unwanted = Dockerfile::from(&base).step("RUN echo nobody wants this");
        let mut waiting = bob.start(&Submission::of(&unwanted).hint("unwanted"))?;
        cluster.wait_for_show("linux", "the second job to wait", SOON, |show| {
            show.contains("bob:unwanted@")
        })?;
        // when its client goes,
        waiting.kill()?;
        // then it is out of the queue, which is counted,
        cluster.wait_for_show("linux", "an empty queue", SOON, |show| {
            !show.contains("unwanted")
        })?;
        cluster.wait_for_metric(
            "ocluster_pool_jobs_cancelled_total",
            &[("pool", "linux")],
            1.0,
        )?;
        // and when the worker is free, it takes what comes next instead.
        story.engine()?.open_gate(&busy)?;
        ensure!(job.wait_exit(SOON)?.success(), "{}", job.log());
        let next = Dockerfile::from(&base).step("RUN echo next");
        alice.submit(&Submission::of(&next))?.success()?;
        cluster.wait_for_metric(
            "ocluster_pool_jobs_accepted_total",
            &[("pool", "linux")],
            2.0,
        )?;
        ensure!(worker.process().is_running()?);
        Ok(())
    })
}

#[test]
fn a_killed_worker_leaves_no_debris() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker in the middle of a build of a commit,
        let base = story.base_image()?;
        let secret = unique("a file of the context");
        let repository = Repository::new(&story.scratch.join("repos/one"))?;
        let commit = repository.commit("One", &[("file", &secret)])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&base).step("COPY file /file").gate();
        let mut job = alice
            .start_to_the_gate(&Submission::of(&dockerfile).from(&server.url("one"), &[&commit]))?;
        let debris = worker.temporary_files();
        ensure!(
            !debris.is_empty(),
            "a running build has files in the worker's tmp directory"
        );

        // when it is killed,
        worker.process().kill()?;

        // then its client hears of it, no container goes on,
        ensure!(
            job.wait_exit(SOON)?.code() == Some(1) && job.log().contains("Disconnected: "),
            "{}",
            job.log()
        );
        story.engine()?.wait_until_gone(&dockerfile)?;
        // and no child of it lives on (it would hold the state directory's name on its command line, or its files open),
        let state = worker.state_directory();
        wait_for("no process to use the state directory", SOON, || {
            Ok(users_of(&state).is_empty().then_some(()))
        })?;
        // and when it starts again, it removes what the dead one left.
        let before = cluster.registrations("w1")?;
        worker.restart()?;
        cluster.wait_until_registered("w1", before)?;
        for path in debris {
            ensure!(!path.exists(), "{} is still there", path.display());
        }
        // The cached repository is whole: the next job uses it.
        let next = Dockerfile::from(&base)
            .step("COPY file /file")
            .step("RUN cat /file");
        let next = alice
            .submit(&Submission::of(&next).from(&server.url("one"), &[&commit]))?
            .success()?;
        ensure!(next.stdout.contains(&secret), "{next}");
        Ok(())
    })
}

#[test]
fn a_worker_that_is_asked_to_stop_cancels_its_jobs_and_leaves_nothing() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).gate();
        let mut job = alice.start_to_the_gate(&Submission::of(&dockerfile))?;
        // When the worker gets SIGTERM,
        worker.process().terminate(SOON)?;
        // then the job ends, and nothing is left of it.
        ensure!(job.wait_exit(SOON)?.code() == Some(1), "{}", job.log());
        story.engine()?.wait_until_gone(&dockerfile)?;
        ensure!(
            worker.temporary_files().is_empty(),
            "left: {:?}",
            worker.temporary_files()
        );
        Ok(())
    })
}

#[test]
fn a_child_of_the_worker_does_not_inherit_its_connection() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker that has run git and Docker,
        let base = story.base_image()?;
        let repository = Repository::new(&story.scratch.join("repos/one"))?;
        let commit = repository.commit("One", &[("file", "one\n")])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&base).step("COPY file /file").gate();
        let mut job = alice
            .start_to_the_gate(&Submission::of(&dockerfile).from(&server.url("one"), &[&commit]))?;
        // when it is killed, then nobody keeps its connection open: the scheduler knows at once, without any ping.
        let start = Instant::now();
        worker.process().kill()?;
        job.wait_exit(SOON)?;
        ensure!(
            start.elapsed() < Duration::from_secs(3),
            "it took {:?}",
            start.elapsed()
        );
        story.engine()?.wait_until_gone(&dockerfile)
    })
}

/// The processes whose command line or working directory names `directory`.
fn users_of(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let processes = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cmdline").exists());
    let uses = |process: &PathBuf| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let named = String::from_utf8_lossy(&command).contains(&*directory.to_string_lossy());
        named || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
    };
    processes
        .filter(uses)
        .map(|process| process.display().to_string())
        .collect()
}
