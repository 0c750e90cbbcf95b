//! BuildKit jobs from end to end: what the client says on its command line reaches the build, and nothing more than that is kept.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Cluster, Dockerfile, GitDaemon, Repository, Story, Submission, WorkerOptions, run, unique,
};

#[test]
fn a_secret_goes_from_the_client_s_file_to_the_step_that_asks_and_nowhere_else() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a client with a secret in a file,
        let mut cluster = Cluster::start(story)?;
        let worker = cluster.add_worker_with(WorkerOptions::named("w1"))?;
        let alice = cluster.add_client("alice")?;
        let value = unique("hunter2");
        let secret = story.scratch.write("secret", &value)?;
        let step = "RUN --mount=type=secret,id=token echo got $(wc -c < /run/secrets/token) bytes";
        let job = Submission::of(&Dockerfile::from(&story.base_image()?).step(step))
            .flag(&format!("--secret=token:{}", secret.display()));
        // when its job does not use BuildKit,
        alice
            .submit(&job)?
            .exits_with(1)?
            // then it is told what to do;
            .fails_saying(&["submit it with --buildkit"])?;
        // when it does,
        let finished = alice.submit(&job.flag("--buildkit"))?.success()?;
        // then the step has it, and neither log nor any of the cluster's files do.
        ensure!(finished.last_line() == "Job succeeded", "{finished}");
        let got = format!(" got {} bytes\n", value.len());
        ensure!(finished.stdout.contains(&got), "{finished}");
        ensure!(!finished.stdout.contains(&value), "{finished}");
        fs::remove_file(&secret)?;
        let leaks = files_with(story.scratch.path(), &value)?;
        ensure!(leaks.is_empty(), "{leaks:?}");
        ensure!(
            worker.temporary_files().is_empty(),
            "{:?}",
            worker.temporary_files()
        );
        Ok(())
    })
}

#[test]
fn a_commit_is_built_with_the_dockerfile_that_is_in_it() -> Result<()> {
    Story::tell(&["docker", "git"], |story| {
        // Given a repository with a Dockerfile in a directory, and its git server,
        let repository = Repository::new(&story.scratch.join("repos/real"))?;
        let word = unique("built");
        let dockerfile = Dockerfile::from(&story.base_image()?)
            .step("ARG WORD")
            .step("COPY file /file")
            .step("RUN echo $WORD from $(cat /file)");
        let commit = repository.commit(
            "Only",
            &[
                ("file", "the-repository\n"),
                ("docker/Web.Dockerfile", dockerfile.text()),
            ],
        )?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(WorkerOptions::named("w1"))?;
        let alice = cluster.add_client("alice")?;
        // when it is built with BuildKit, with the commit's git directory,
        let job = Submission::of_context(&server.url("real"), &[&commit])
            .flag("--context-dockerfile=docker/Web.Dockerfile")
            .flag(&format!("--build-arg=WORD={word}"))
            .flag("--include-git")
            .flag("--buildkit");
        let finished = alice.submit(&job)?.success()?;
        // then the step says what it should, on a numbered line with its time.
        let line = finished
            .stdout
            .lines()
            .find(|line| line.ends_with(&format!(" {word} from the-repository")))
            .with_context(|| format!("the step says nothing: {finished}"))?;
        ensure!(line.starts_with('#'), "{line}");
        Ok(())
    })
}

#[test]
fn limits_that_are_none_end_the_worker_before_it_connects() -> Result<()> {
    Story::tell(&[], |story| {
        let cap = story
            .scratch
            .write("pool.cap", "capnp://insecure@127.0.0.1:1/c2VjcmV0")?;
        for (flag, hint) in [
            (
                "--build-cpus=many",
                "use a decimal number from 0.01 to 10000",
            ),
            ("--build-memory=1k", "use at least 6M"),
            ("--build-network=a b", "use none, host, default"),
        ] {
            let mut worker = story.programs.command("ocluster-worker");
            worker
                .arg(&cap)
                .args(["--name=w", "--state-dir"])
                .arg(story.scratch.join("state"));
            run(worker.arg(flag))?
                .exits_with(124)?
                .fails_saying(&[hint])?;
        }
        Ok(())
    })
}

/// The files below `directory` that have `needle` in them.
fn files_with(directory: &Path, needle: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        let kind = entry?;
        if kind.is_dir() {
            found.extend(files_with(&path, needle)?);
        } else if kind.is_file() {
            let bytes = fs::read(&path)?;
            if bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
            {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}
