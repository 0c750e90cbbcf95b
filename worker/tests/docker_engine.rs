//! Engines that are away, die, hang or answer oddly: a clear sentence within seconds.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use docker_support::Job;
use docker_support::fake::{Build, FakeEngine};
use docker_support::private::PrivateEngine;
use ocluster_worker::executor::{
    Cause, DockerConfig, DockerExecutor, EngineAddress, Failure, Outcome,
};
use tempfile::TempDir;

fn executor_at(socket: PathBuf) -> DockerExecutor {
    let engine = EngineAddress::Unix(socket);
    DockerExecutor::new(DockerConfig {
        engine,
        answer_timeout: Duration::from_secs(1),
        ..Default::default()
    })
}

async fn engine_failure(executor: &DockerExecutor) -> String {
    let start = Instant::now();
    let (outcome, log) = Job::new("FROM scratch\n").run(executor).await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    assert_eq!(log, "");
    let Outcome::Failed(Failure {
        cause: Cause::Engine,
        message,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(executor.health().await.unwrap_err().message, message);
    message
}

#[tokio::test]
async fn an_engine_that_was_never_there_is_named() {
    let executor = executor_at("/nonexistent/docker.sock".into());
    assert_eq!(
        engine_failure(&executor).await,
        "cannot reach the Docker engine at unix:///nonexistent/docker.sock: its socket does not exist; \
         start it, or point the worker's DOCKER_HOST at the right one"
    );
}

#[tokio::test]
async fn an_engine_that_left_its_socket_behind_is_named() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let message = engine_failure(&executor_at(socket)).await;
    assert!(
        message.contains("/docker.sock: Connection refused (os error 111); start it, or point"),
        "{message}"
    );
}

#[tokio::test]
async fn an_engine_that_hangs_is_given_up() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    let _hanging = UnixListener::bind(&socket).unwrap();
    let message = engine_failure(&executor_at(socket)).await;
    assert!(
        message.contains("/docker.sock: it does not answer in time; start it, or point"),
        "{message}"
    );
}

#[tokio::test]
async fn an_engine_that_stops_without_naming_an_image_has_not_succeeded() {
    let fake = FakeEngine::start(Build::Answer(vec![
        "{\"stream\":\"Step 1/1 : FROM scratch\"}\r\n",
    ]));
    let (outcome, log) = Job::new("FROM scratch\n").run(&fake.executor()).await;
    let Outcome::Failed(Failure {
        cause: Cause::Engine,
        message,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(
        message.contains("it ended its answer without naming an image"),
        "{message}"
    );
    assert!(log.ends_with("Step 1/1 : FROM scratch"), "{log}");
}

#[tokio::test]
async fn messages_that_arrive_in_pieces_are_put_together() {
    let pieces = vec![
        "{\"stream\":\"one",
        "\\ntwo\\n\"}",
        "\r\n",
        "{\"aux\":{\"ID\":\"sha256:1\"}}\r\n",
        "{\"stream\":\"three\\n\"}",
        "\r",
        "\n",
    ];
    let fake = FakeEngine::start(Build::Answer(pieces));
    let (outcome, log) = Job::new("FROM scratch\n").run(&fake.executor()).await;
    assert_eq!(
        outcome,
        Outcome::Succeeded {
            output: String::new()
        }
    );
    assert!(log.ends_with("\r\r\none\ntwo\nthree\n"), "{log}");
}

/// What engine 20.10 answers when another job's image goes away while it looks for a step's result in its cache.
const LOST: &str = "{\"errorDetail\":{\"message\":\"unable to find image \\\"sha256:c7230b\\\"\"},\"error\":\"unable to find image \\\"sha256:c7230b\\\"\"}\r\n";

#[tokio::test]
async fn an_engine_that_lost_its_way_in_its_cache_is_asked_again() {
    let built = vec![
        "{\"aux\":{\"ID\":\"sha256:1\"}}\r\n",
        "{\"stream\":\"built\\n\"}\r\n",
    ];
    let fake = FakeEngine::start(Build::answers([vec![LOST], vec![LOST], built]));
    let (outcome, log) = Job::new("FROM scratch\n").run(&fake.executor()).await;
    let output = String::new();
    assert_eq!(outcome, Outcome::Succeeded { output }, "{log}");
    assert_eq!(log.matches("building again").count(), 2, "{log}");
    assert!(log.ends_with("built\n"), "{log}");
}

#[tokio::test]
async fn an_engine_that_always_loses_its_way_is_given_up() {
    let fake = FakeEngine::start(Build::answers([vec![LOST]]));
    let (outcome, log) = Job::new("FROM scratch\n").run(&fake.executor()).await;
    let Outcome::Failed(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(failure.cause, Cause::Engine);
    assert_eq!(log.matches("unable to find image").count(), 5, "{log}");
}

#[tokio::test]
async fn an_engine_killed_during_a_build_is_noticed_at_once() {
    needs_docker!("an_engine_killed_during_a_build_is_noticed_at_once");
    let mut engine = PrivateEngine::start().await;
    let mut running = Job::fresh("RUN echo step is up; sleep 1000").start(engine.executor());
    running.rest_of_line("\nstep is ").await;
    let start = Instant::now();
    engine.kill();
    let (outcome, log) = running.end().await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
    let Outcome::Failed(Failure {
        cause: Cause::Engine,
        message,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    let expected = format!(
        "lost the Docker engine at unix://{} during the build: ",
        engine.socket().display()
    );
    assert!(message.starts_with(&expected), "{message}");
    assert!(
        message.ends_with("; submit the job again once the engine runs"),
        "{message}"
    );
    assert!(log.ends_with("step is up\n"), "{log}");
    let message = engine.executor().health().await.unwrap_err().message;
    assert!(
        message.starts_with("cannot reach the Docker engine at unix://"),
        "{message}"
    );
}

#[tokio::test]
async fn an_experimental_engine_squashes_layers() {
    needs_docker!("an_experimental_engine_squashes_layers");
    let engine = PrivateEngine::start().await;
    let layers = async |squash| {
        let mut job = Job::fresh("RUN echo a > /a\nRUN echo b > /b");
        job.build.squash = squash;
        let (outcome, log) = job.run(&engine.executor()).await;
        assert_eq!(
            outcome,
            Outcome::Succeeded {
                output: String::new()
            },
            "{log}"
        );
        let image = log
            .trim_end()
            .rsplit_once("Successfully built ")
            .unwrap()
            .1
            .to_owned();
        engine
            .docker()
            .inspect_image(&image)
            .await
            .unwrap()
            .root_fs
            .unwrap()
            .layers
            .unwrap()
            .len()
    };
    assert_eq!(layers(false).await, 4);
    assert_eq!(layers(true).await, 2);
}

#[tokio::test]
async fn a_healthy_engine_says_what_it_is() {
    needs_docker!("a_healthy_engine_says_what_it_is");
    let (executor, _) = docker_support::engine().await;
    let health = executor.health().await.unwrap();
    assert!(health.version.contains('.'), "{health:?}");
    assert!(health.api_version.starts_with("1."), "{health:?}");
}
