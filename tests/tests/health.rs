//! Machines that are unwell: a worker without its engine, an engine without room, a scheduler without file descriptors. They say so,
//! do no harm, and recover by themselves.

use std::collections::HashSet;
use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    BaseImage, Cluster, Dockerfile, Engine, SOON, Story, Submission, WorkerOptions, wait_for,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// How long a worker may take to say goodbye, whatever it is waiting for.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn a_worker_whose_engine_dies_takes_no_jobs_says_why_in_show_and_recovers_by_itself() -> Result<()>
{
    Story::tell(&["docker", "dockerd"], |story| {
        // Given an idle worker with an engine of its own,
        let mut engine = Engine::private(
            &story.scratch.join("engine"),
            &story.scratch.log_file("dockerd"),
        )?;
        let base = BaseImage::in_engine(&engine)?;
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker_with(
            WorkerOptions::named("w1")
                .docker_host(engine.host())
                .flag("--health-check=1"),
        )?;
        cluster.wait_for_show("linux", "w1 to be ready", SOON, |show| {
            show.contains("queue: (ready) [w1]")
        })?;

        // when the engine dies,
        engine.kill()?;

        // then the worker says so,
        let words = format!(
            "w1 (0): (inactive: worker pause (cannot reach the Docker engine at {}: ",
            engine.host()
        );
        cluster.wait_for_show("linux", "w1 to say why", SOON, |show| show.contains(&words))?;
        let json = cluster
            .admin(&["show", "linux", "--output=json"])?
            .success()?
            .stdout;
        ensure!(json.contains("worker pause (cannot reach"), "{json}");
        // takes no jobs,
        let alice = cluster.add_client("alice")?;
        let build = Dockerfile::from(&base).step("RUN echo built");
        let mut job = alice.start(&Submission::of(&build).hint("patient"))?;
        cluster.wait_for_show("linux", "the job to wait", SOON, |show| {
            show.contains("queue: (backlog) [alice:patient@")
        })?;
        ensure!(worker.process().is_running()?);
        // and does them when the engine is back.
        engine.restart()?;
        ensure!(job.wait_exit(SOON)?.success(), "{}", job.log());
        ensure!(!cluster.show("linux")?.contains("inactive"));
        Ok(())
    })
}

#[test]
fn d10_a_worker_that_cannot_free_space_says_so_in_show_and_leaves_when_told_to() -> Result<()> {
    Story::tell(&["docker", "dockerd"], |story| {
        let engine = Engine::private(
            &story.scratch.join("engine"),
            &story.scratch.log_file("dockerd"),
        )?;
        let mut cluster = Cluster::start(story)?;
        // No disk in use is free to 100%.
        let mut worker = cluster.add_worker_with(
            WorkerOptions::named("w1")
                .docker_host(engine.host())
                .flag("--prune-threshold=100"),
        )?;
        let show = cluster.wait_for_show("linux", "w1 to have pruned", SOON, |show| {
            show.contains("w1 (0): (inactive: worker pause (Docker has been pruned, and yet ")
        })?;
        ensure!(
            show.contains(" of the space and ") && show.contains(", and 100% should be))"),
            "{show}"
        );
        let start = Instant::now();
        let status = worker.process().terminate(SOON)?;
        ensure!(
            status.success() && start.elapsed() < AT_ONCE,
            "{status} after {:?}",
            start.elapsed()
        );
        Ok(())
    })
}

#[test]
fn d18_a_scheduler_without_file_descriptors_serves_what_it_has_and_serves_all_again() -> Result<()>
{
    Story::tell(&["docker"], |story| {
        // Given a scheduler with a running job and a waiting one,
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let gated = Dockerfile::from(&base).gate();
        let mut running = alice.start_to_the_gate(&Submission::of(&gated))?;
        let next = Dockerfile::from(&base).step("RUN echo next");
        let mut waiting = alice.start(&Submission::of(&next).hint("waiting"))?;
        cluster.wait_for_show("linux", "a job to wait", SOON, |show| {
            show.contains("alice:waiting@")
        })?;

        // when strangers take all its descriptors, on both ports,
        leave_descriptors(cluster.scheduler()?.pid(), 24)?;
        let strangers = (0..40)
            .map(|_| connect(cluster.port()))
            .collect::<Result<Vec<_>>>()?;
        cluster
            .scheduler()?
            .wait_for_log("Cannot accept a connection")?;
        let visitors = (0..3)
            .map(|_| connect(cluster.http_port()))
            .collect::<Result<Vec<_>>>()?;
        cluster
            .scheduler()?
            .wait_for_log("Cannot accept an HTTP connection")?;

        // then those who are connected are served: the running job ends well.
        story.engine()?.open_gate(&gated)?;
        ensure!(running.wait_exit(SOON)?.success(), "{}", running.log());
        // The next one cannot be given a log, or can, as descriptors come back. It ends either way.
        drop((strangers, visitors));
        waiting.wait_exit(SOON)?;

        // Once they are gone, everything works: looking, changing what is kept on disk, metrics, and jobs.
        cluster.show("linux")?;
        cluster.admin(&["pause", "linux", "w1"])?.success()?;
        cluster.admin(&["unpause", "linux", "w1"])?.success()?;
        ensure!(cluster.get("/metrics")?.status == 200);
        ensure!(cluster.get("/health")?.status == 200);
        let after = Dockerfile::from(&base).step("RUN echo after");
        let after = alice.submit(&Submission::of(&after))?.success()?;
        ensure!(after.stdout.contains("\nafter\n"), "{after}");
        ensure!(cluster.registrations("w1")? == 1 && worker.process().is_running()?);
        let log = cluster.scheduler()?.log();
        ensure!(!log.contains("panicked at"), "{log}");
        Ok(())
    })
}

/// Lets a process open only so many files more.
fn leave_descriptors(pid: u32, more: usize) -> Result<()> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().parse::<u64>()?))
        .collect::<Result<HashSet<_>>>()?;
    // New files get the lowest numbers that are free.
    let limit = (0..).filter(|number| !open.contains(number)).nth(more);
    let pid = Pid::from_raw(pid.try_into()?).context("no such process")?;
    let limits = Rlimit {
        current: limit,
        maximum: limit,
    };
    prlimit(Some(pid), Resource::Nofile, limits)?;
    Ok(())
}

/// Connects, and says nothing.
fn connect(port: u16) -> Result<TcpStream> {
    wait_for("a connection", SOON, || {
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })
}
