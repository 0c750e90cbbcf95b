//! Jobs that cannot succeed: their clients learn why, in a sentence, and everybody else goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use ocluster_tests::{
    Bystander, Client, Cluster, ClusterOptions, Dockerfile, Engine, Finished, GitDaemon,
    Repository, SOON, Story, Submission, WorkerOptions, run, unique,
};

#[test]
fn a_dockerfile_that_cannot_be_parsed_fails_its_own_build() -> Result<()> {
    with_bystander(|story, _, alice| {
        let base = story.base_image()?;
        let nonsense = Dockerfile::from(&base).step("FROBNICATE everything");
        failed(
            alice.submit(&Submission::of(&nonsense))?,
            &["unknown instruction", "FROBNICATE"],
        )?;
        failed(alice.submit(&Submission::of_text(""))?, &["Dockerfile"])?;
        let failing = Dockerfile::from(&base).step("RUN echo it went wrong; exit 3");
        failed(
            alice.submit(&Submission::of(&failing))?,
            &["it went wrong", "returned a non-zero code: 3"],
        )?;
        Ok(())
    })
}

#[test]
fn a_source_that_does_not_exist_is_named() -> Result<()> {
    with_bystander(|story, _, alice| {
        // Given a git server with one repository,
        let repository = Repository::new(&story.scratch.join("repos/real"))?;
        let commit = repository.commit("Only", &[("file", "content\n")])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let build = Submission::of(&Dockerfile::from(&story.base_image()?));
        // then a repository that it does not have,
        let missing = server.url("missing");
        failed(
            alice.submit(&build.clone().from(&missing, &[&commit]))?,
            &[&missing],
        )?;
        // a server that does not exist,
        let nobody = "git://127.0.0.1:1/repo";
        failed(
            alice.submit(&build.clone().from(nobody, &[&commit]))?,
            &[nobody],
        )?;
        // a scheme that is not supported,
        failed(
            alice.submit(&build.clone().from("ftp://x/y", &[&commit]))?,
            &["Unsupported scheme \"ftp\" in URL ftp://x/y"],
        )?;
        // a commit that the repository does not have, and what is not a commit's hash, are each named;
        let unknown = "0123456789012345678901234567890123456789";
        failed(
            alice.submit(&build.clone().from(&server.url("real"), &[unknown]))?,
            &[unknown],
        )?;
        failed(
            alice.submit(&build.clone().from(&server.url("real"), &["main; rm -rf /"]))?,
            &["main; rm -rf /"],
        )?;
        // a Dockerfile that is not in the commit, or outside of it, is, too;
        let url = server.url("real");
        let context = Submission::of_context(&url, &[&commit]);
        failed(alice.submit(&context)?, &["\"Dockerfile\" does not exist"])?;
        failed(
            alice.submit(&context.flag("--context-dockerfile=../../etc/passwd"))?,
            &["Relative segment in ../../etc/passwd"],
        )?;
        // and what exists is built as ever.
        alice.submit(&build.from(&url, &[&commit]))?.success()?;
        Ok(())
    })
}

#[test]
fn commits_that_cannot_be_merged_are_told_with_their_conflict() -> Result<()> {
    with_bystander(|story, _, alice| {
        // Given two branches that change the same line,
        let repository = Repository::new(&story.scratch.join("repos/torn"))?;
        let start = repository.commit("Start", &[("contested", "one\n")])?;
        repository.branch("left", &start)?;
        let left = repository.commit("Left", &[("contested", "two\n")])?;
        repository.branch("right", &start)?;
        let right = repository.commit("Right", &[("contested", "three\n")])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let build = Submission::of(&Dockerfile::from(&story.base_image()?).step("COPY . /src"));
        // when both are submitted together, then the file is named;
        failed(
            alice.submit(&build.clone().from(&server.url("torn"), &[&left, &right]))?,
            &["conflict", "contested"],
        )?;
        // and each for itself is fine: no half-merged state stays behind.
        for commit in [&left, &right] {
            alice
                .submit(&build.clone().from(&server.url("torn"), &[commit]))?
                .success()?;
        }
        Ok(())
    })
}

#[test]
fn an_engine_that_is_away_at_the_start_keeps_jobs_waiting_until_it_is_there() -> Result<()> {
    Story::tell(&["docker", "dockerd"], |story| {
        let mut cluster = Cluster::start_with(story, with_bystanders())?;
        let bystander = Bystander::start(story, &mut cluster)?;
        let alice = cluster.add_client("alice")?;
        // Given a worker whose Docker engine is not there,
        let directory = story.scratch.join("engine");
        let host = format!("unix://{}", directory.join("docker.sock").display());
        let mut worker = cluster.add_worker_with(WorkerOptions::named("w1").docker_host(&host))?;
        cluster.wait_for_show("linux", "the worker to say so", SOON, |show| {
            show.contains("inactive: worker pause (cannot reach the Docker engine at ")
        })?;
        // when a job comes, then it waits,
        let mut job = alice.start(&Submission::of_text("FROM scratch\nLABEL waits=yes\n"))?;
        cluster.wait_for_show("linux", "the job to wait", SOON, |show| {
            show.contains("queue: (backlog) [alice:")
        })?;
        ensure!(worker.process().is_running()?, "the worker gave up");
        bystander.has_noticed_nothing()?;
        // and when the engine has come, the same worker builds.
        let engine = Engine::private(&directory, &story.scratch.log_file("dockerd"))?;
        ensure!(job.wait_exit(SOON)?.success(), "{}", job.log());
        let base = ocluster_tests::BaseImage::in_engine(&engine)?;
        alice
            .submit(&Submission::of(
                &Dockerfile::from(&base).step("RUN echo built"),
            ))?
            .success()?;
        Ok(())
    })
}

#[test]
fn an_engine_that_dies_in_the_middle_of_a_build_fails_that_build_only() -> Result<()> {
    Story::tell(&["docker", "dockerd"], |story| {
        let mut cluster = Cluster::start_with(story, with_bystanders())?;
        let bystander = Bystander::start(story, &mut cluster)?;
        let alice = cluster.add_client("alice")?;
        // Given a worker with an engine of its own, in the middle of a build,
        let mut engine = Engine::private(
            &story.scratch.join("engine"),
            &story.scratch.log_file("dockerd"),
        )?;
        let base = ocluster_tests::BaseImage::in_engine(&engine)?;
        let mut worker =
            cluster.add_worker_with(WorkerOptions::named("w1").docker_host(engine.host()))?;
        let dockerfile = Dockerfile::from(&base).gate();
        let mut job = alice.start_to_the_gate(&Submission::of(&dockerfile))?;
        // when the engine is killed,
        engine.kill()?;
        // then the job fails with a word about it, and the worker stays,
        ensure!(job.wait_exit(SOON)?.code() == Some(1), "{}", job.log());
        let log = job.log().to_lowercase();
        ensure!(
            log.contains("docker") && log.contains("failed: build failed."),
            "{log}"
        );
        ensure!(worker.process().is_running()?, "the worker gave up");
        bystander.has_noticed_nothing()?;
        // and builds when the engine is back.
        engine.restart()?;
        alice
            .submit(&Submission::of(
                &Dockerfile::from(&base).step("RUN echo built"),
            ))?
            .success()?;
        Ok(())
    })
}

#[test]
fn a_build_that_floods_its_log_is_followed_to_the_end() -> Result<()> {
    with_bystander(|story, _, alice| {
        let last = unique("the-last-line");
        let flood = format!(
            "RUN yes 0123456789012345678901234567890123456789 | head -n 200000; echo {last}"
        );
        let finished = alice
            .submit(&Submission::of(
                &Dockerfile::from(&story.base_image()?).step(&flood),
            ))?
            .success()?;
        // One more line than the flood prints is the instruction itself.
        let lines = finished
            .stdout
            .lines()
            .filter(|line| line.starts_with("0123456789"))
            .count();
        ensure!(
            lines == 200_000 && finished.stdout.contains(&format!("\n{last}\n")),
            "{lines} lines came"
        );
        Ok(())
    })
}

#[test]
fn jobs_of_kinds_that_this_worker_does_not_do_are_refused_clearly() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(WorkerOptions::named("w1").test_jobs())?;
        let alice = cluster.add_client("alice")?;
        // A spec for OBuilder,
        let spec = story.scratch.write("spec", "((from scratch))")?;
        let mut command = story.programs.command("ocluster-client");
        command
            .args(["submit-obuilder", "--pool=linux", "-c"])
            .arg(alice.cap())
            .arg("--local-file")
            .arg(spec);
        run(&mut command)?.fails_saying(&["obuilder"])?;
        // and a push that this worker does not allow.
        let push = Submission::of_text("FROM scratch\n").flag("--push-to=registry/image:tag");
        alice
            .submit(&push)?
            .fails_saying(&["start the worker with --allow-push \"registry/image\""])?;
        Ok(())
    })
}

/// A cluster with a worker `w1` in pool `linux`, client alice, and a bystander who must not notice what alice's jobs do.
fn with_bystander(tell: impl Fn(&Story, &Cluster<'_>, &Client<'_>) -> Result<()>) -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start_with(story, with_bystanders())?;
        let mut worker = cluster.add_worker("w1")?;
        let bystander = Bystander::start(story, &mut cluster)?;
        let alice = cluster.add_client("alice")?;
        tell(story, &cluster, &alice)?;
        bystander.has_noticed_nothing()?;
        ensure!(worker.process().is_running()?);
        let left =
            ocluster_tests::wait_for("the contexts to be gone", Duration::from_secs(20), || {
                Ok(worker.temporary_files().is_empty().then_some(()))
            });
        ensure!(left.is_ok(), "left behind: {:?}", worker.temporary_files());
        Ok(())
    })
}

fn with_bystanders() -> ClusterOptions {
    ClusterOptions {
        pools: vec!["linux".to_owned(), Bystander::POOL.to_owned()],
        ..ClusterOptions::default()
    }
}

/// Checks that a job failed as builds do: reasons in the log, the verdict last, exit code 1.
fn failed(finished: Finished, words: &[&str]) -> Result<()> {
    let finished = finished.exits_with(1)?.fails_saying(words)?;
    ensure!(
        finished.last_line() == "Failed: Build failed.",
        "the last line is another: {finished}"
    );
    Ok(())
}
