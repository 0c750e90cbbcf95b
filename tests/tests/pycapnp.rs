//! A second implementation of Cap'n Proto takes part: pycapnp as a client and as a worker, over TLS, with our schema.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod customer;

use anyhow::{Context as _, Result, ensure};
use customer::Customer;
use ocluster_api::TestStep;
use ocluster_tests::{Cluster, Process, Python, SOON, Story, Submission, WorkerOptions, run};

/// A worker in Python, in pool `linux`.
fn python_worker(story: &Story, cluster: &mut Cluster<'_>, name: &str) -> Result<Process> {
    let python = Python::with_certificate(&story.scratch)?;
    let mut command = python.command("worker.py", &cluster.secret("pool-linux.cap"));
    command.args(["--name", name]);
    let before = cluster.registrations(name)?;
    let worker = Process::start(name, &mut command, &story.scratch.log_file(name))?;
    cluster.wait_until_registered(name, before)?;
    Ok(worker)
}

/// A client in Python submits a test job with these steps to our own worker, and prints what is expected.
fn python_client_prints(steps: &str, words: &[&str], expected: &str) -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(WorkerOptions::named("w1").test_jobs())?;
        let alice = cluster.add_client("alice")?;
        let python = Python::with_certificate(&story.scratch)?;
        let mut command = python.command("client.py", alice.cap());
        command.args(["--steps", steps]).args(words);
        assert_eq!(run(&mut command)?.success()?.stdout, expected);
        Ok(())
    })
}

#[test]
fn a_python_client_follows_its_job_to_the_end() -> Result<()> {
    python_client_prints(
        r#"[{"print": "one"}, {"sleep_ms": 50}, {"print": "two"}]"#,
        &["--hint=python", "--urgent"],
        "Building on w1\none\ntwo\nJob succeeded\noutput: ''\n",
    )
}

#[test]
fn a_python_client_learns_that_its_job_failed() -> Result<()> {
    python_client_prints(
        r#"[{"exit": 3}]"#,
        &[],
        "Building on w1\ntest job exited with code 3\nerror: Failed: Build failed\n",
    )
}

#[test]
fn a_python_client_cancels_its_job() -> Result<()> {
    python_client_prints(
        r#"[{"print": "begun"}, "hang"]"#,
        &["--cancel-at", "begun\n"],
        "Building on w1\nbegun\nJob cancelled\nerror: Failed: Build cancelled\n",
    )
}

#[test]
fn a_python_client_cancels_its_job_by_the_ticket() -> Result<()> {
    python_client_prints(
        r#"[{"print": "begun"}, "hang"]"#,
        &["--cancel-at", "begun\n", "--by-ticket"],
        "Building on w1\nbegun\nJob cancelled\nerror: Failed: Build cancelled\n",
    )
}

#[test]
fn a_python_client_is_told_which_pools_there_are() -> Result<()> {
    let reason = "Failed: Pool ID \"nope\" not one of {linux}";
    python_client_prints(
        "[]",
        &["--pool=nope"],
        &format!("log error: {reason}\nerror: {reason}\n"),
    )
}

#[test]
fn a_python_client_that_is_removed_is_out_at_once_and_for_ever() -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        // Given a client that is connected and was accepted,
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        let python = Python::with_certificate(&story.scratch)?;
        let removed = story.scratch.join("removed");
        let mut command = python.command("client.py", alice.cap());
        command.arg("--wait-for").arg(&removed);
        let mut client = Process::start("alice", &mut command, &story.scratch.log_file("alice"))?;
        client.wait_for_log("connected")?;
        // when it is removed,
        cluster.admin(&["remove-client", "alice"])?.success()?;
        story.scratch.write("removed", "")?;
        // then its next job is refused,
        client.wait_exit(SOON)?;
        ensure!(
            client
                .log()
                .ends_with("error: Failed: Access has been revoked\n"),
            "{}",
            client.log()
        );
        // and its sturdy ref leads nowhere.
        let printed = run(&mut python.command("client.py", alice.cap()))?
            .success()?
            .stdout;
        ensure!(
            printed.ends_with("error: Failed: Unknown persistent service ID\n"),
            "{printed}"
        );
        Ok(())
    })
}

#[test]
fn a_python_worker_serves_our_client() -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = python_worker(story, &mut cluster, "snake")?;
        let alice = cluster.add_client("alice")?;
        let good = alice
            .submit(&Submission::of_text("FROM good").hint("from python"))?
            .success()?;
        assert_eq!(
            good.stdout,
            "Tailing log:\nBuilding on snake\nFROM good\nJob succeeded\nResult: \"made by python\"\n"
        );
        worker.wait_for_log("got a job with the hint 'from python'")?;
        let bad = alice
            .submit(&Submission::of_text("FROM bad"))?
            .exits_with(1)?;
        // pycapnp wraps the reason of an error into a Python traceback.
        ensure!(
            bad.stdout
                .starts_with("Tailing log:\nBuilding on snake\nFROM bad\nno such thing\nFailed: ")
                && bad.stdout.contains("Build failed"),
            "{bad}"
        );
        ensure!(worker.is_running()?);
        Ok(())
    })
}

#[test]
fn a_python_worker_is_told_when_our_client_cancels() -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = python_worker(story, &mut cluster, "snake")?;
        let alice = cluster.add_client("alice")?;
        let mut job = alice.start(&Submission::of_text("FROM long"))?;
        job.wait_for_log("FROM long")?;
        job.interrupt()?;
        ensure!(!job.wait_exit(SOON)?.success(), "{}", job.log());
        worker.wait_for_log("asked to cancel")?;
        // It is free for the next one.
        alice.submit(&Submission::of_text("FROM good"))?.success()?;
        Ok(())
    })
}

#[test]
fn our_client_learns_that_a_python_worker_died() -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = python_worker(story, &mut cluster, "snake")?;
        let alice = cluster.add_client("alice")?;
        let lost = alice
            .submit(&Submission::of_text("FROM crash"))?
            .exits_with(1)?;
        assert_eq!(lost.stdout, "Tailing log:\nBuilding on snake\nFROM crash\n");
        assert!(lost.stderr.contains("Disconnected: "), "{lost}");
        assert_eq!(worker.wait_exit(SOON)?.code(), Some(3));
        Ok(())
    })
}

#[test]
fn a_python_client_finds_everything_as_ever_beside_durable_jobs() -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker =
            cluster.add_worker_with(WorkerOptions::named("w1").capacity(2).test_jobs())?;
        let (alice, bob) = (cluster.add_client("alice")?, cluster.add_client("bob")?);
        // Given a durable job that runs,
        let kept = Customer::with(bob.cap())?;
        let id = kept.submit("kept", "", &[TestStep::Hang])?;
        bob.start_asking(&["log", &id, "-f"])?
            .wait_for_log("Building on w1")?;
        let python = Python::with_certificate(&story.scratch)?;
        let client = |steps: &str, words: &[&str]| {
            let mut command = python.command("client.py", alice.cap());
            run(command.args(["--steps", steps]).args(words))
        };
        // then a job of the frozen protocol beside it ends, fails and is cancelled in the words it always was,
        let passed = client(r#"[{"print": "one"}]"#, &[])?.success()?.stdout;
        assert_eq!(passed, "Building on w1\none\nJob succeeded\noutput: ''\n");
        let cancelled = client(
            r#"[{"print": "begun"}, "hang"]"#,
            &["--cancel-at", "begun\n"],
        )?;
        assert_eq!(
            cancelled.success()?.stdout,
            "Building on w1\nbegun\nJob cancelled\nerror: Failed: Build cancelled\n"
        );
        // and the durable one does not mind.
        let info = kept.info(&id)?;
        ensure!(
            info.worker.as_deref() == Some("w1") && info.attempt == 1,
            "{info:?}"
        );
        bob.ask(&["cancel", &id])?.success()?;
        Ok(())
    })
}

#[test]
fn a_durable_job_runs_on_a_python_worker_and_elsewhere_when_that_dies() -> Result<()> {
    Story::tell(&["pycapnp"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = python_worker(story, &mut cluster, "snake")?;
        let alice = cluster.add_client("alice")?;
        // Given a worker that knows only the frozen protocol, then it serves a durable job as any other,
        let good = alice
            .submit(&Submission::of_text("FROM good").durable())?
            .success()?;
        assert_eq!(
            good.stdout,
            "Tailing log:\nBuilding on snake\nFROM good\nJob succeeded\nResult: \"made by python\"\n"
        );
        // and is asked to stop when the job is cancelled.
        let mut job = alice.start(&Submission::of_text("FROM long").durable())?;
        job.wait_for_log("FROM long")?;
        job.interrupt()?;
        ensure!(!job.wait_exit(SOON)?.success(), "{}", job.log());
        worker.wait_for_log("asked to cancel")?;
        // When it dies with a job,
        let lost = alice
            .submit(&Submission::of_text("FROM crash").durable().flag("--detach"))?
            .success()?;
        let id = lost.stdout.trim();
        assert_eq!(worker.wait_exit(SOON)?.code(), Some(3));
        // then the job waits for another one, and tells so.
        let mut explained = alice.start_asking(&["log", id, "-f"])?;
        explained.wait_for_log("[attempt 1 on worker \"snake\" came to nothing")?;
        let told = alice.ask(&["explain", id])?.success()?.stdout;
        ensure!(told.contains("nobody can take it"), "{told}");
        let info = Customer::with(alice.cap())?.info(id)?;
        let first = info.attempts.first().context("no attempt is told of")?;
        ensure!(first.worker == "snake" && info.attempt == 1, "{info:?}");
        alice.ask(&["cancel", id])?.success()?;
        Ok(())
    })
}
