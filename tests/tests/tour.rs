//! The tour of the README, on real Docker jobs: from two programs and an empty directory to a build that finds its cache.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Client, Cluster, ClusterOptions, Dockerfile, GitDaemon, GitHttp, Registry, Repository, SOON,
    Story, Submission, WorkerOptions, run, unique, wait_for,
};

#[test]
fn the_scheduler_writes_its_caps_for_its_owner_only() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a scheduler with two pools,
        let pools = vec!["linux".to_owned(), "arm".to_owned()];
        let mut cluster = Cluster::start_with(
            story,
            ClusterOptions {
                pools,
                ..ClusterOptions::default()
            },
        )?;
        // then each cap is a sturdy ref, on one line, which only its owner can read,
        for name in ["admin.cap", "pool-linux.cap", "pool-arm.cap"] {
            let path = cluster.secret(name);
            let cap = fs::read_to_string(&path)?;
            ensure!(
                cap.starts_with("capnp://sha-256:")
                    && cap.ends_with('\n')
                    && cap.lines().count() == 1,
                "{name}: {cap}"
            );
            ensure!(
                fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600,
                "{name} can be read by others"
            );
            // and the log says so.
            let line = format!("Wrote capability reference to \"{}\"", path.display());
            cluster.scheduler()?.wait_for_log(&line)?;
        }
        // And the admin sees both pools.
        let pools = cluster.admin(&["show"])?.success()?.stdout;
        ensure!(pools == "arm\nlinux\n", "pools: {pools:?}");
        cluster.stop_scheduler()
    })
}

#[test]
fn a_commit_of_a_real_repository_is_built_with_a_live_log() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a repository with a Dockerfile, served by a real git server, a cluster, and a client,
        let base = story.base_image()?;
        let dockerfile = Dockerfile::from(&base)
            .step("COPY greeting /greeting")
            .step("RUN cat /greeting")
            .gate();
        let repository = Repository::new(&story.scratch.join("repos/hello"))?;
        let greeting = unique("hello from the commit");
        let commit = repository.commit(
            "Say hello",
            &[
                ("greeting", &format!("{greeting}\n")),
                ("Dockerfile", dockerfile.text()),
            ],
        )?;
        repository.commit("Say something else", &[("greeting", "too late\n")])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;

        // when the client submits that commit,
        let mut job =
            alice.start_to_the_gate(&Submission::of_context(&server.url("hello"), &[&commit]))?;

        // then the log arrives while the build is still running,
        let log = job.log();
        ensure!(
            job.is_running()?,
            "the job did not wait at its gate:\n{log}"
        );
        ensure!(
            log.contains("Tailing log:\nBuilding on w1\n"),
            "the log begins otherwise:\n{log}"
        );
        ensure!(
            log.contains(&greeting),
            "the build did not see the commit:\n{log}"
        );
        // and when the build may go on, it succeeds, and says so last.
        story.engine()?.open_gate(&dockerfile)?;
        ensure!(
            job.wait_exit(SOON)?.success(),
            "the job failed:\n{}",
            job.log()
        );
        let log = job.log();
        ensure!(
            log.trim_end().lines().last() == Some("Job succeeded"),
            "the log ends otherwise:\n{log}"
        );
        Ok(())
    })
}

#[test]
fn git_over_http_and_merged_commits_make_a_context() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a repository on smart HTTP with two branches that changed different files,
        let base = story.base_image()?;
        let repository = Repository::new(&story.scratch.join("repos/two"))?;
        let start = repository.commit("Start", &[("readme", "start\n")])?;
        repository.branch("left", &start)?;
        let left = repository.commit("Left", &[("left", "from the left\n")])?;
        repository.branch("right", &start)?;
        let right = repository.commit("Right", &[("right", "from the right\n")])?;
        let server = GitHttp::start(&story.scratch.join("repos"))?;
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;

        // when both are submitted together,
        let dockerfile = Dockerfile::from(&base)
            .step("COPY . /src")
            .step("RUN cat /src/left /src/right");
        let job = Submission::of(&dockerfile).from(&server.url("two/.git"), &[&left, &right]);
        let finished = alice.submit(&job)?.success()?;

        // then the build sees both.
        for text in ["from the left", "from the right"] {
            ensure!(
                finished.stdout.contains(text),
                "{text:?} is missing: {finished}"
            );
        }
        Ok(())
    })
}

#[test]
fn the_same_hint_goes_to_the_same_worker_of_two() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let _workers = (cluster.add_worker("w1")?, cluster.add_worker("w2")?);
        let alice = cluster.add_client("alice")?;
        let on = |hint: &str| -> Result<String> {
            let dockerfile = Dockerfile::from(&story.base_image()?).step("RUN echo built");
            Client::worker_in(
                &alice
                    .submit(&Submission::of(&dockerfile).hint(hint))?
                    .success()?
                    .stdout,
            )
        };

        // Given that hint `one` was built on w1, because w2 was paused, and hint `two` the other way round,
        for (paused, hint, builder) in [("w2", "one", "w1"), ("w1", "two", "w2")] {
            cluster.admin(&["pause", "linux", paused])?.success()?;
            let worker = on(hint)?;
            ensure!(
                worker == builder,
                "{hint} was built on {worker} while {paused} was paused"
            );
            cluster.admin(&["unpause", "linux", paused])?.success()?;
        }
        // when both workers are free and the hints come again, in an order that no rotation would give,
        for (hint, builder) in [
            ("two", "w2"),
            ("two", "w2"),
            ("one", "w1"),
            ("one", "w1"),
            ("two", "w2"),
        ] {
            cluster.wait_for_show("linux", "both workers to be ready", SOON, both_ready)?;
            // then each goes where its cache is.
            let worker = on(hint)?;
            ensure!(worker == builder, "{hint} went to {worker}");
        }
        Ok(())
    })
}

#[test]
fn pausing_waits_for_running_jobs_and_unpausing_lets_the_queue_go_on() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker in the middle of a job,
        let base = story.base_image()?;
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let running = Dockerfile::from(&base).gate();
        let mut job = alice.start_to_the_gate(&Submission::of(&running))?;

        // when it is paused with --wait,
        let log = story.scratch.log_file("pause");
        let mut pause = ocluster_tests::Process::start(
            "the pause",
            &mut cluster.admin_command(&["pause", "linux", "w1", "--wait"]),
            &log,
        )?;
        pause.wait_for_log("w1: Running jobs: 1")?;
        // then the command waits for the job, and `show` tells of the pause,
        ensure!(
            pause.is_running()?,
            "the pause did not wait:\n{}",
            pause.log()
        );
        cluster.wait_for_show("linux", "the pause to show", SOON, |show| {
            show.contains("admin pause")
        })?;
        let state = cluster.admin(&["show", "linux", "w1"])?.success()?.stdout;
        ensure!(state == "w1: Paused\n", "show linux w1: {state:?}");
        // and a new job waits in the queue,
        let waiting = Dockerfile::from(&base).step("RUN echo at last");
        let mut queued = alice.start(&Submission::of(&waiting).hint("patience"))?;
        cluster.wait_for_show("linux", "the job to be queued", SOON, |show| {
            show.contains("alice:patience@")
        })?;
        // and when the job ends, the pause is complete.
        story.engine()?.open_gate(&running)?;
        ensure!(
            job.wait_exit(SOON)?.success(),
            "the job failed:\n{}",
            job.log()
        );
        ensure!(
            pause.wait_exit(SOON)?.success(),
            "the pause failed:\n{}",
            pause.log()
        );
        ensure!(
            pause.log().trim_end().ends_with("Success."),
            "the pause said:\n{}",
            pause.log()
        );
        ensure!(
            queued.is_running()? && !queued.log().contains("Building on"),
            "a paused worker took a job"
        );

        // And unpausing lets the queue go on.
        cluster.admin(&["unpause", "linux", "w1"])?.success()?;
        ensure!(
            queued.wait_exit(SOON)?.success(),
            "the queued job failed:\n{}",
            queued.log()
        );
        let state = cluster.admin(&["show", "linux", "w1"])?.success()?.stdout;
        ensure!(state == "w1: Running\n", "show linux w1: {state:?}");
        Ok(())
    })
}

#[test]
fn a_worker_that_left_is_remembered_until_it_is_forgotten() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        // Given a worker that is connected: it cannot be forgotten.
        let mut worker = cluster.add_worker("w1")?;
        let refusal = cluster.admin(&["forget", "linux", "w1"])?.exits_with(1)?;
        ensure!(
            refusal
                .stdout
                .contains("Failed: Worker \"w1\" is still connected!"),
            "{refusal}"
        );
        // When it has stopped,
        worker.process().terminate(Duration::from_secs(30))?;
        let show = cluster.wait_for_show("linux", "w1 to be gone", SOON, |show| {
            disconnected(show, "w1")
        })?;
        ensure!(show.contains("disconnected:\n  w1"), "{show}");
        // then it is still known, and can be forgotten, once.
        cluster.admin(&["forget", "linux", "w1"])?.success()?;
        ensure!(!cluster.show("linux")?.contains("w1"), "w1 is still known");
        let refusal = cluster.admin(&["forget", "linux", "w1"])?.exits_with(1)?;
        ensure!(
            refusal
                .stdout
                .contains("Failed: Worker \"w1\" not known in this pool"),
            "{refusal}"
        );
        Ok(())
    })
}

#[test]
fn clients_are_added_listed_and_removed() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker("w1")?;
        let none = cluster.admin(&["list-clients"])?.success()?;
        ensure!(
            none.stdout.is_empty() && none.stderr.contains("No clients."),
            "{none}"
        );
        // Given two clients,
        let alice = cluster.add_client("alice")?;
        cluster.add_client("bob")?;
        ensure!(cluster.admin(&["list-clients"])?.success()?.stdout == "alice\nbob\n");
        // of which one can work,
        let dockerfile = Dockerfile::from(&story.base_image()?).step("RUN echo built");
        alice.submit(&Submission::of(&dockerfile))?.success()?;
        // when she is removed,
        cluster.admin(&["remove-client", "alice"])?.success()?;
        // then her cap is worth nothing, even if she is added again.
        for _ in 0..2 {
            let refusal = alice.submit(&Submission::of(&dockerfile))?.exits_with(1)?;
            let said = format!("{}{}", refusal.stdout, refusal.stderr);
            ensure!(
                said.contains("Access has been revoked")
                    || said.contains("Unknown persistent service ID"),
                "the refusal is not clear: {refusal}"
            );
            cluster.admin(&["add-client", "alice"])?;
        }
        Ok(())
    })
}

#[test]
fn the_readme_s_command_lines_take_positional_caps() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a scheduler, and a worker started with its cap as a word of its own,
        let mut cluster = Cluster::start(story)?;
        let mut worker = story.programs.command("ocluster-worker");
        worker.arg(cluster.secret("pool-linux.cap")).args([
            "--name=w1",
            "--capacity=1",
            "--docker-pull=missing",
            "-v",
        ]);
        worker.arg(format!(
            "--state-dir={}",
            story.scratch.join("state-w1").display()
        ));
        let _worker = ocluster_tests::Process::start(
            "the worker",
            &mut worker,
            &story.scratch.log_file("worker"),
        )?;
        cluster.wait_until_registered("w1", 0)?;
        // when the admin and the client do the same,
        let mut admin = story.programs.command("ocluster-admin");
        let cap = run(admin
            .arg("add-client")
            .arg(cluster.secret("admin.cap"))
            .arg("alice"))?
        .success()?
        .stdout;
        let cap = story.scratch.write("alice.cap", cap)?;
        let dockerfile = Dockerfile::from(&story.base_image()?).step("RUN echo built");
        let dockerfile = story.scratch.write("Dockerfile", dockerfile.text())?;
        let mut client = story.programs.command("ocluster-client");
        client
            .arg("submit-docker")
            .arg(cap)
            .args(["--cache-hint=tutorial", "--pool=linux"]);
        client.arg("--local-dockerfile").arg(dockerfile);
        // then it works as with --connect.
        let finished = run(&mut client)?.success()?;
        ensure!(finished.last_line() == "Job succeeded", "{finished}");
        let mut show = story.programs.command("ocluster-admin");
        let show = run(show
            .arg("show")
            .arg(cluster.secret("admin.cap"))
            .arg("linux"))?
        .success()?;
        ensure!(show.stdout.contains("registered:\n  w1 ("), "{show}");
        Ok(())
    })
}

#[test]
fn a_base_image_that_is_missing_is_pulled_from_a_registry() -> Result<()> {
    Story::tell(&["docker", "registry"], |story| {
        // Given an image in a registry, which the engine does not have,
        let engine = story.engine()?;
        let base = story.base_image()?;
        let registry = Registry::start(&story.scratch)?;
        let name = format!("{}:latest", registry.repository(&unique("base")));
        engine.docker(&["tag", base.name(), &name])?.success()?;
        engine.docker(&["push", &name])?.success()?;
        engine.docker(&["rmi", &name])?.success()?;
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(WorkerOptions::named("w1"))?;
        let alice = cluster.add_client("alice")?;
        // when a job is built from it,
        let finished = alice.submit(&Submission::of_text(&format!(
            "FROM {name}\nRUN echo {}\n",
            unique("built")
        )))?;
        // then it is pulled.
        let here = engine.docker(&["image", "inspect", &name])?;
        engine.docker(&["rmi", &name])?;
        finished.success()?;
        here.success().context("the image was not pulled")?;
        Ok(())
    })
}

#[test]
fn three_jobs_of_three_clients_run_at_once_on_one_worker() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker with room for three jobs, and three clients,
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(WorkerOptions::named("w1").capacity(3))?;
        let base = story.base_image()?;
        let dockerfiles = [(); 3].map(|()| Dockerfile::from(&base).gate());
        let mut jobs = Vec::new();
        for (number, dockerfile) in dockerfiles.iter().enumerate() {
            let client = cluster.add_client(&format!("client{number}"))?;
            jobs.push(client.start(&Submission::of(dockerfile))?);
        }
        // then all three run at once,
        for job in &mut jobs {
            job.wait_for_log(&Dockerfile::at_the_gate())?;
        }
        cluster.wait_for_show("linux", "three running jobs", SOON, |show| {
            show.contains("(3 running)")
        })?;
        // and end, and nothing is left running.
        for (job, dockerfile) in jobs.iter_mut().zip(&dockerfiles) {
            story.engine()?.open_gate(dockerfile)?;
            ensure!(job.wait_exit(SOON)?.success(), "{}", job.log());
        }
        wait_for("no running job", SOON, || {
            Ok(cluster.show("linux")?.contains("(0 running)").then_some(()))
        })
    })
}

/// Whether `show` lists both workers as ready.
fn both_ready(show: &str) -> bool {
    show.lines().any(|line| {
        line.starts_with("queue: (ready)") && line.contains("w1") && line.contains("w2")
    })
}

/// Whether `show` lists the worker below `disconnected:`.
fn disconnected(show: &str, name: &str) -> bool {
    show.split_once("disconnected:")
        .is_some_and(|(_, rest)| rest.lines().any(|line| line.trim() == name))
}
