//! Images that go to a registry, with the real programs, a real registry and a real engine.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Client, Cluster, Dockerfile, Engine, Finished, Registry, SOON, Story, Submission,
    WorkerOptions, free_port, wait_for,
};

/// Who may push.
const USER: &str = "ci";
/// With letters whose usual encoding engines do not read.
const PASSWORD: &str = "hunter2?~~>";

#[test]
fn an_image_goes_to_a_registry_with_a_login_and_is_pulled_back_by_the_result() -> Result<()> {
    Story::tell(&["docker", "registry"], |story| {
        let engine = story.engine()?;
        let registry = Registry::with_login(&story.scratch, USER, PASSWORD)?;
        let repository = registry.repository("team/app");
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker_with(allowing(&[&repository]))?;
        let alice = cluster.add_client("alice")?;
        let settings = docker_settings();

        // When a client with the right password has an image built and pushed,
        let base = story.base_image()?;
        let dockerfile = Dockerfile::from(&base).step("RUN echo from the cluster > /origin");
        let build = with_login(story, &Submission::of(&dockerfile), PASSWORD)?
            .flag(&format!("--push-to={repository}:v1"));
        let finished = alice.submit(&build)?.success()?;

        // then its log says so, the result names the image, and the registry has got it once;
        let (image, _) = after(&finished, "\nPushing \"")?
            .split_once('"')
            .context("no image")?;
        let line = format!("\nPushing \"{image}\" to \"{repository}:v1\" as user \"{USER}\"\n");
        ensure!(finished.stdout.contains(&line), "{finished}");
        let (name, _) = after(&finished, "\nResult: \"")?
            .split_once('"')
            .context("no result")?;
        ensure!(name.starts_with(&format!("{repository}@sha256:")), "{name}");
        ensure!(registry.manifests("team/app")? == 1);
        // nothing of it has a name on the engine any more, and the image is there still,
        ensure!(names_of(&engine, image)?.is_empty(), "{image} has names");
        engine.docker(&["rmi", image])?.success()?;
        // and whoever logs in gets it from the registry, the same to the last byte.
        let config = story.scratch.directory("docker-config")?;
        let config = config.to_str().context("an odd directory")?;
        let login = ["--config", config, "login", "-u", USER, "-p", PASSWORD];
        let host = repository.split('/').next().context("no host")?;
        engine.docker(&[&login[..], &[host]].concat())?.success()?;
        engine
            .docker(&["--config", config, "pull", name])?
            .success()?;
        let ids = engine.list(&["image", "inspect", "--format", "{{.Id}}", name])?;
        engine.docker(&["rmi", name])?.success()?;
        ensure!(ids == [image], "{ids:?} instead of {image}");

        // The wrong password is told as such, at once.
        let wrong = with_login(story, &Submission::of(&dockerfile), "hunter3")?
            .flag(&format!("--push-to={repository}:v1"));
        let refused = alice.submit(&wrong)?.exits_with(1)?;
        let login = format!("\nFailed to docker-login as \"{USER}\": login attempt ");
        ensure!(refused.stdout.contains(&login), "{refused}");
        ensure!(refused.stdout.contains("401 Unauthorized"), "{refused}");

        // No password is in any log or file of the worker, and Docker's own settings are as they were.
        worker.process().terminate(SOON)?;
        let said = [worker.process().log(), finished.stdout, refused.stdout].concat();
        ensure!(!said.contains("hunter"), "a password was printed:\n{said}");
        ensure!(!contains(&worker.state_directory(), "hunter")?);
        ensure!(docker_settings() == settings, "Docker's settings changed");
        Ok(())
    })
}

#[test]
fn a_push_that_cannot_be_is_told_before_anything_is_built() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker =
            cluster.add_worker_with(allowing(&["127.0.0.1:9/team/app", "localhost:5000/x"]))?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).step("RUN echo the build began");
        let build = Submission::of(&dockerfile);
        // A repository that the worker does not allow,
        let other = build.clone().flag("--push-to=127.0.0.1:9/team/other:v1");
        let refused = alice.submit(&other)?.exits_with(1)?;
        let sentence = "To allow pushing to this repository, start the worker with --allow-push \"127.0.0.1:9/team/other\"\n";
        ensure!(refused.stdout.contains(sentence), "{refused}");
        ensure!(!refused.stdout.contains("the build began"), "{refused}");
        // D21: a target whose registry has a port, and which has no tag,
        let untagged = build.clone().flag("--push-to=localhost:5000/x");
        alice
            .submit(&untagged)?
            .exits_with(124)?
            .fails_saying(&["Missing ':TAG' in target \"localhost:5000/x\""])?;
        // and what is no target at all.
        let nonsense = build.flag("--push-to=127.0.0.1:9/team/app:no such tag");
        alice
            .submit(&nonsense)?
            .exits_with(124)?
            .fails_saying(&["Invalid tag in target"])?;
        Ok(())
    })
}

#[test]
fn a_registry_that_comes_back_while_the_worker_waits_gets_its_image() -> Result<()> {
    Story::tell(&["docker", "registry"], |story| {
        let engine = story.engine()?;
        // Given a registry that is away,
        let port = free_port()?;
        let repository = format!("127.0.0.1:{port}/app");
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(allowing(&[&repository]))?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).step("RUN echo one more");
        let build = Submission::of(&dockerfile).flag(&format!("--push-to={repository}:v1"));
        let mut job = alice.start(&build)?;
        job.wait_for_log("\nPush attempt 1/6 failed with retryable error \"")?;
        // when it comes back,
        let registry = Registry::start_at(&story.scratch, port)?;
        // then the next attempt does it, and the job ends well.
        let status = job.wait_exit(SOON)?;
        ensure!(status.success(), "{status}:\n{}", job.log());
        ensure!(
            job.log()
                .contains(&format!("\nResult: \"{repository}@sha256:"))
        );
        ensure!(registry.manifests("app")? == 1);
        let log = job.log();
        let (_, rest) = log.split_once("\nPushing \"").context("no image")?;
        let (image, _) = rest.split_once('"').context("no image")?;
        ensure!(names_of(&engine, image)?.is_empty(), "{image} has names");
        engine.docker(&["rmi", image])?.success()?;
        Ok(())
    })
}

#[test]
fn a_job_that_is_cancelled_while_it_waits_to_push_again_leaves_nothing() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let engine = story.engine()?;
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker_with(allowing(&["127.0.0.1:9/app"]))?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).step("RUN echo never pushed");
        let build = Submission::of(&dockerfile).flag("--push-to=127.0.0.1:9/app:v1");
        // When the client of a job that waits goes away,
        let image = wait_to_push_again(&alice, &build)?;
        // then the image loses our name, and the worker is free.
        let unnamed = || Ok(names_of(&engine, &image)?.is_empty().then_some(()));
        wait_for("the image to have no name", SOON, unnamed)?;
        cluster.wait_for_show("linux", "the worker to be free", SOON, |show| {
            show.contains("(0 running)")
        })?;

        // When the worker is killed instead,
        let mut job = alice.start(&build)?;
        job.wait_for_log("\nPush attempt 1/6 ")?;
        ensure!(names_of(&engine, &image)?.len() == 1);
        worker.process().kill()?;
        ensure!(names_of(&engine, &image)?.len() == 1);
        // then it removes the name when it starts again.
        worker.restart()?;
        wait_for("the image to have no name", SOON, unnamed)?;
        engine.docker(&["rmi", &image])?.success()?;
        Ok(())
    })
}

/// Starts a job whose push fails, kills its client while the job waits, and gives the image.
fn wait_to_push_again(client: &Client<'_>, build: &Submission) -> Result<String> {
    let mut job = client.start(build)?;
    job.wait_for_log("\nPush attempt 1/6 ")?;
    let log = job.log();
    let (_, rest) = log.split_once("\nPushing \"").context("no image")?;
    let (image, _) = rest.split_once('"').context("no image")?;
    job.kill()?;
    Ok(image.to_owned())
}

/// A worker that allows pushing to these repositories.
fn allowing(repositories: &[&str]) -> WorkerOptions {
    WorkerOptions::named("pusher").flag(&format!("--allow-push={}", repositories.join(",")))
}

fn with_login(story: &Story, build: &Submission, password: &str) -> Result<Submission> {
    // Only the first line counts.
    let file = story
        .scratch
        .write("password", format!("{password}\nnot this\n"))?;
    Ok(build
        .clone()
        .flag(&format!("--push-user={USER}"))
        .flag(&format!("--push-password={}", file.display())))
}

fn after<'a>(finished: &'a Finished, text: &str) -> Result<&'a str> {
    let (_, rest) = finished
        .stdout
        .split_once(text)
        .with_context(|| format!("no {text:?}: {finished}"))?;
    Ok(rest)
}

/// All names of an image that is there.
fn names_of(engine: &Engine, image: &str) -> Result<Vec<String>> {
    let format = "{{range .RepoTags}}{{.}} {{end}}{{range .RepoDigests}}{{.}} {{end}}";
    engine.list(&["image", "inspect", "--format", format, image])
}

/// The settings of the Docker command of whoever runs the tests, if there are any.
fn docker_settings() -> Option<Vec<u8>> {
    let home = std::env::var_os("HOME")?;
    fs::read(PathBuf::from(home).join(".docker/config.json")).ok()
}

/// Whether any file below `directory` has `text` in it.
fn contains(directory: &std::path::Path, text: &str) -> Result<bool> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let found = if entry.file_type()?.is_dir() {
            contains(&entry.path(), text)?
        } else {
            let bytes = fs::read(entry.path())?;
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
