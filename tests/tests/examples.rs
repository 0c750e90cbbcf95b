//! The examples for those who write workers and clients of their own, with a real scheduler between them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use anyhow::{Result, ensure};
use ocluster_tests::{Client, Cluster, Process, SOON, Story, run};

/// The example worker, called `adder`, in pool `linux`.
fn start_worker(story: &Story, cluster: &mut Cluster<'_>) -> Result<Process> {
    let mut command = story.programs.example("custom_worker")?;
    command
        .arg(cluster.secret("pool-linux.cap"))
        .arg("adder")
        .arg(story.scratch.join("adder"));
    let worker = Process::start("adder", &mut command, &story.scratch.log_file("adder"))?;
    cluster.wait_until_registered("adder", 0)?;
    Ok(worker)
}

/// The example client with a job of the kind `kind`.
fn submit(story: &Story, client: &Client<'_>, kind: &str, payload: &str) -> Result<Command> {
    let mut command = story.programs.example("submit")?;
    command.arg(client.cap()).args(["linux", kind, payload]);
    Ok(command)
}

#[test]
fn the_example_worker_solves_what_the_example_client_submits() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = start_worker(story, &mut cluster)?;
        let alice = cluster.add_client("alice")?;
        let solved = run(&mut submit(story, &alice, "solve", "1 20 300")?)?.success()?;
        assert_eq!(
            solved.stdout,
            "Building on adder\n+ 1 = 1\n+ 20 = 21\n+ 300 = 321\nJob succeeded\nThe result is \"321\".\n"
        );
        // It stops when asked to.
        worker.interrupt()?;
        ensure!(worker.wait_exit(SOON)?.success(), "{}", worker.log());
        Ok(())
    })
}

#[test]
fn the_example_worker_says_what_is_wrong_with_a_job() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = start_worker(story, &mut cluster)?;
        let alice = cluster.add_client("alice")?;
        let jobs = [
            ("solve", "1 two 3", "\"two\" is not a number"),
            (
                "solve",
                "9223372036854775807 1",
                "9223372036854775807 + 1 is too large",
            ),
            ("brew", "coffee", "Unsupported custom job"),
        ];
        for (kind, payload, sentence) in jobs {
            let failed = run(&mut submit(story, &alice, kind, payload)?)?.exits_with(1)?;
            ensure!(
                failed.stdout.ends_with(&format!("{sentence}\n")),
                "{failed}"
            );
            ensure!(failed.stderr.contains("Build failed"), "{failed}");
        }
        ensure!(worker.is_running()?);
        Ok(())
    })
}

#[test]
fn the_example_client_cancels_its_job() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = start_worker(story, &mut cluster)?;
        let alice = cluster.add_client("alice")?;
        let endless = "1 ".repeat(50_000);
        let mut command = submit(story, &alice, "solve", &endless)?;
        let mut client = Process::start("alice", &mut command, &story.scratch.log_file("alice"))?;
        client.wait_for_log("+ 1 = 2\n")?;
        client.interrupt()?;
        ensure!(!client.wait_exit(SOON)?.success(), "{}", client.log());
        ensure!(
            client.log().contains("\nJob cancelled\n"),
            "{}",
            client.log()
        );
        ensure!(client.log().contains("Build cancelled"), "{}", client.log());
        Ok(())
    })
}
