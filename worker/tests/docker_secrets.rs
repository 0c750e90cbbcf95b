//! Secrets of BuildKit builds: the step that asks gets them, and they are found nowhere else, then or later.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bollard::Docker;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use docker_support::pool::{Event, Pool};
use docker_support::{BASE, Job, PATIENCE, engine, nonce, with_buildkit};
use futures::StreamExt as _;
use ocluster_api::{Action, DockerBuild, Dockerfile, JobSpec, Secret, SecretBytes};
use ocluster_worker::executor::{Cause, Failure, Outcome};
use tempfile::TempDir;

fn secret(id: &str, value: impl Into<Vec<u8>>) -> Secret {
    Secret {
        id: id.to_owned(),
        value: SecretBytes::new(value.into()),
    }
}

fn with_secrets(steps: &str, secrets: impl Into<Vec<Secret>>) -> Job {
    let mut job = with_buildkit(Job::fresh(steps));
    job.secrets = secrets.into();
    job
}

async fn built(job: Job) -> String {
    let (executor, _) = engine().await;
    let (outcome, log) = job.run(&executor).await;
    assert!(
        matches!(outcome, Outcome::Succeeded { .. }),
        "{outcome:?}\n{log}"
    );
    log
}

#[tokio::test]
async fn a_step_gets_the_bytes_of_each_secret_that_it_asks_for() {
    needs_docker!("a_step_gets_the_bytes_of_each_secret_that_it_asks_for");
    let steps = "RUN --mount=type=secret,id=token cat /run/secrets/token; echo\n\
        RUN --mount=type=secret,id=binary,target=/b od -c /b\n\
        RUN --mount=type=secret,id=empty test ! -e /run/secrets/empty && echo nothing\n\
        RUN --mount=type=secret,id=Odd:id/x+y%20,target=/o cat /o; echo\n\
        RUN --mount=type=secret,id=large,target=/l stat -c 'size %s' /l";
    let secrets = [
        secret("token", "for the step"),
        secret("binary", b"\0\xff\n\r".to_vec()),
        secret("empty", ""),
        secret("Odd:id/x+y%20", "oddly named"),
        secret("large", vec![b'x'; 500 * 1024]),
        secret("never asked for", "x"),
    ];
    let log = built(with_secrets(steps, secrets)).await;
    for line in [
        " for the step\n",
        "0000000  \\0 377  \\n  \\r\n",
        " nothing\n",
        "Note: the secret \"empty\" is empty, and BuildKit gives build steps no file for it\n",
        " oddly named\n",
        " size 512000\n",
    ] {
        assert!(log.contains(line), "{line}:\n{log}");
    }
}

#[tokio::test]
async fn a_secret_that_the_job_does_not_have_is_named() {
    needs_docker!("a_secret_that_the_job_does_not_have_is_named");
    let step =
        "RUN --mount=type=secret,id=missing test ! -e /run/secrets/missing && echo not there";
    let log = built(with_secrets(step, [secret("other", "hidden-value")])).await;
    assert!(log.contains(" not there\n"), "{log}");

    let (executor, _) = engine().await;
    let step = "RUN --mount=type=secret,id=missing,required=true cat /run/secrets/missing";
    let job = with_secrets(step, [secret("other", "hidden-value")]);
    let (outcome, log) = job.run(&executor).await;
    assert_eq!(
        outcome,
        Failure::build("docker-build failed with exit-code 1").into()
    );
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("missing") && last.contains("not found"),
        "{log}"
    );
    assert!(!log.contains("hidden-value"), "{log}");
}

#[tokio::test]
async fn secrets_that_no_step_could_get_are_refused_without_being_shown() {
    needs_docker!("secrets_that_no_step_could_get_are_refused_without_being_shown");
    let (executor, _) = engine().await;
    let refused = async |job: Job| {
        let (outcome, log) = job.run(&executor).await;
        assert_eq!(log, "");
        match outcome {
            Outcome::Failed(Failure {
                cause: Cause::Request,
                message,
            }) => message,
            other => panic!("{other:?}"),
        }
    };
    let megabytes = secret("huge", vec![b'q'; 3 << 20]);
    assert_eq!(
        refused(with_secrets("", [megabytes])).await,
        "the secret \"huge\" has 3145728 bytes, and BuildKit takes 512000 at most: \
         give the build a smaller one, such as a key to fetch the rest with"
    );
    assert_eq!(
        refused(with_secrets("", [secret("", "hidden-value")])).await,
        "a secret of this job has no id, so that no build step could ask for it"
    );
    let mut classic = with_secrets("", [secret("token", "hidden-value")]);
    classic.build.buildkit = false;
    assert_eq!(
        refused(classic).await,
        "this job has secrets, which only BuildKit can give to build steps: submit it with --buildkit"
    );
}

/// A worker as operators run it, its log in a file.
struct WorkerProcess {
    directory: TempDir,
    process: Child,
}

impl WorkerProcess {
    fn start(pool: &Pool) -> Self {
        let directory = TempDir::new().unwrap();
        let cap = directory.path().join("pool.cap");
        let mut options = fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&cap)
            .unwrap();
        std::io::Write::write_all(&mut file, pool.cap().to_uri().as_bytes()).unwrap();
        let log = fs::File::create(directory.path().join("worker.log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_ocluster-worker"))
            .arg(format!("--connect={}", cap.display()))
            .arg(format!(
                "--state-dir={}",
                directory.path().join("state").display()
            ))
            .args([
                "--name=w",
                "--capacity=1",
                "--docker-pull=missing",
                "--verbosity=debug",
            ])
            .env("TMPDIR", directory.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { directory, process }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("worker.log")).unwrap()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The files below a directory that have `needle` in them.
fn files_with(directory: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with(&path, needle));
        } else if entry.file_type().is_ok_and(|kind| kind.is_file())
            && fs::read(&path).is_ok_and(|bytes| contains(&bytes, needle))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// The processes whose command line or environment has `needle` in it.
fn processes_with(needle: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter(|process| {
        ["cmdline", "environ"].iter().any(|file| {
            fs::read(process.path().join(file)).is_ok_and(|bytes| contains(&bytes, needle))
        })
    });
    found
        .map(|process| process.path().display().to_string())
        .collect()
}

#[tokio::test]
async fn a_secret_is_found_nowhere_but_in_the_step_that_asked() {
    needs_docker!("a_secret_is_found_nowhere_but_in_the_step_that_asked");
    let (_, docker) = engine().await;
    let (value, waiting) = (
        format!("s3cr3t-{}", nonce()),
        format!("waiting-{}", nonce()),
    );
    let mut pool = Pool::start();
    let worker = WorkerProcess::start(&pool);
    assert_eq!(pool.next().await, Event::Asked);
    // The step has the secret until it is let go, by a file in its own file system.
    let name = format!("ocluster-test-secret-{}", nonce());
    let size = value.len();
    let dockerfile = format!(
        "FROM {BASE}\nLABEL test={name}\n\
         RUN --mount=type=secret,id=token test $(stat -c %s /run/secrets/token) = {size} && echo has it \
         && until test -e /tmp/go; do sleep 1; done; echo {waiting}\n",
    );
    pool.give(JobSpec {
        action: Action::Docker(DockerBuild {
            dockerfile: Dockerfile::Contents(dockerfile),
            push: None,
            build_args: vec![],
            squash: false,
            buildkit: true,
            include_git: false,
        }),
        cache_hint: String::new(),
        source: None,
        secrets: vec![secret("token", value.as_str())],
    });
    // While it runs.
    let start = Instant::now();
    let spool = worker.directory.path().join("state");
    while files_with(&spool, " has it\n").is_empty() {
        assert!(
            start.elapsed() < PATIENCE,
            "the step does not run:\n{}",
            worker.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(processes_with(&value), [""; 0]);
    assert_eq!(files_with(worker.directory.path(), &value), [""; 0]);
    let step = processes_with(&waiting).pop().expect("the step runs");
    fs::write(format!("{step}/root/tmp/go"), "").unwrap();
    // And after it.
    assert_eq!(pool.next().await, Event::Asked);
    let start = Instant::now();
    let job_log = loop {
        if let Some(log) = files_with(&spool, "Job succeeded").pop() {
            break log;
        }
        assert!(start.elapsed() < PATIENCE, "{}", worker.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(files_with(worker.directory.path(), &value), [""; 0]);
    let log = fs::read_to_string(&job_log).unwrap();
    let image = log
        .split("writing image ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(
        !contains(&saved(&docker, image).await, &value),
        "the image has the secret"
    );
    assert!(
        contains(&saved(&docker, image).await, &name),
        "the search finds nothing at all"
    );
    drop(worker);
    let forced = RemoveImageOptionsBuilder::new().force(true).build();
    docker
        .remove_image(image, Some(forced), None)
        .await
        .unwrap();
}

/// An image as `docker save` gives it, its layers uncompressed.
async fn saved(docker: &Docker, image: &str) -> Vec<u8> {
    let pieces: Vec<_> = docker.export_image(image).collect().await;
    pieces
        .into_iter()
        .flat_map(|piece| piece.unwrap())
        .collect()
}
