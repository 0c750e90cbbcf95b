//! Pushing: to real registries, with and without a login, and to registries, networks and engines that fail.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use docker_support::breaking_way::BreakingWay;
use docker_support::private::PrivateEngine;
use docker_support::registry::{Manners, Proxy, Registry, Seen};
use docker_support::{BASE, Job, PATIENCE, engine};
use futures::TryStreamExt as _;
use ocluster_api::{ImageTarget, ImageTargetError, Push, RegistryLogin, SecretBytes};
use ocluster_worker::Metrics;
use ocluster_worker::executor::docker::{BUILT_BY, PushConfig, Retries, WorkerMark};
use ocluster_worker::executor::{
    Cause, DockerConfig, DockerExecutor, EngineAddress, Failure, Outcome,
};

/// A password whose usual encoding has letters that engines do not read.
const PASSWORD: &str = "hunter2?~~>\u{fc}";

/// Waits that a test can wait for.
const SHORT: Retries = Retries {
    times: 5,
    first: Duration::from_millis(20),
    longest: Duration::from_millis(50),
};
/// A wait that no test waits for.
const LONG: Retries = Retries {
    times: 5,
    first: Duration::from_secs(3600),
    longest: Duration::from_secs(3600),
};

/// An executor that may push to `repository`.
fn pushing(executor: &DockerExecutor, repository: &str, retries: Retries) -> DockerExecutor {
    DockerExecutor::new(DockerConfig {
        push: PushConfig {
            allowed: [repository.parse().unwrap()].into(),
            retries,
            ..PushConfig::default()
        },
        ..executor.config().clone()
    })
}

/// Like [`build_for`], with a layer that is too large to be on its way unseen.
fn large_build_for(repository: &str) -> Job {
    let mut layer = vec![0; 24 << 20];
    rand::fill(&mut layer[..]);
    build_for(repository, None).with_file("nonce", layer)
}

/// A build that nobody has seen before, to be pushed as `repository:v1`.
fn build_for(repository: &str, login: Option<(&str, &str)>) -> Job {
    let mut job = Job::fresh("");
    job.build.push = Some(Push {
        target: format!("{repository}:v1").parse().unwrap(),
        login: login.map(|(user, password)| RegistryLogin {
            user: user.to_owned(),
            password: SecretBytes::new(password.as_bytes().to_vec()),
        }),
    });
    job
}

fn output(outcome: Outcome, log: &str) -> String {
    match outcome {
        Outcome::Succeeded { output } => output,
        other => panic!("{other:?}\n{log}"),
    }
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// How many pushes were counted. The counts are for the worker's page of metrics; here they are read as they print.
fn counted(metrics: &Metrics) -> u32 {
    let text = format!("{metrics:?}");
    let (_, pushes) = text.split_once("pushes: ").unwrap();
    let (_, count) = pushes.split_once("count: ").unwrap();
    count.split(',').next().unwrap().parse().unwrap()
}

/// The image that the log says is pushed.
fn pushed_image(log: &str) -> String {
    let (_, rest) = log.split_once("\nPushing \"").expect(log);
    rest.split_once('"').unwrap().0.to_owned()
}

async fn inspect(docker: &Docker, name: &str) -> Option<ImageInspect> {
    docker.inspect_image(name).await.ok()
}

/// Sees that the image is still there, and that it has no name at all; then removes it.
async fn is_left_without_a_name(docker: &Docker, image: &str) {
    let inspected = inspect(docker, image).await.expect("the image is gone");
    assert_eq!(inspected.repo_tags.unwrap_or_default(), [""; 0]);
    assert_eq!(inspected.repo_digests.unwrap_or_default(), [""; 0]);
    remove(docker, image).await;
}

async fn remove(docker: &Docker, name: &str) {
    let none = None::<RemoveImageOptions>;
    docker.remove_image(name, none, None).await.unwrap();
}

#[tokio::test]
async fn d3_an_image_is_pushed_once_and_can_be_pulled_by_the_digest_that_is_the_result() {
    // D3: OCluster pushes twice.
    needs_docker!("d3_an_image_is_pushed_once_and_can_be_pulled_by_the_digest_that_is_the_result");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let proxy = Proxy::before(&registry, Manners::Good).await;
    let repository = format!("{}/team/app", proxy.address);
    let metrics = Metrics::default();
    let executor = pushing(&executor, &repository, SHORT).counting_in(metrics.clone());
    let (outcome, log) = build_for(&repository, None).run(&executor).await;

    assert_eq!(counted(&metrics), 1);
    let name = output(outcome, &log);
    let image = pushed_image(&log);
    assert!(name.starts_with(&format!("{repository}@sha256:")), "{name}");
    assert!(
        log.contains(&format!("\nPushing \"{image}\" to \"{repository}:v1\"\n")),
        "{log}"
    );
    let digest = name.split_once('@').unwrap().1;
    assert!(
        log.contains(&format!("\nv1: digest: {digest} size: ")),
        "{log}"
    );
    assert!(!log.contains("[=") && !log.contains(": Pushing"), "{log}");
    // The name that keeps the image until it is pushed is the worker's own affair.
    assert!(!log.contains("Successfully tagged"), "{log}");
    let stored = Seen {
        stored: 1,
        ..Seen::default()
    };
    assert_eq!(*proxy.seen.borrow(), stored);

    let labels = inspect(&docker, &image)
        .await
        .unwrap()
        .config
        .unwrap()
        .labels;
    assert_eq!(labels.unwrap().get(BUILT_BY.0).unwrap(), BUILT_BY.1);
    is_left_without_a_name(&docker, &image).await;
    let pull = CreateImageOptionsBuilder::new().from_image(&name).build();
    let pulled = docker.create_image(Some(pull), None, None);
    pulled.try_for_each(async |_| Ok(())).await.unwrap();
    assert_eq!(inspect(&docker, &name).await.unwrap().id.unwrap(), image);
    remove(&docker, &name).await;
}

#[tokio::test]
async fn an_image_of_buildkit_is_labelled_and_pushed_like_any_other() {
    needs_docker!("an_image_of_buildkit_is_labelled_and_pushed_like_any_other");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let repository = format!("{}/app", registry.address);
    let executor = pushing(&executor, &repository, SHORT);
    let mut job = build_for(&repository, None);
    job.build.buildkit = true;
    let (outcome, log) = job.run(&executor).await;
    assert!(output(outcome, &log).starts_with(&format!("{repository}@sha256:")));
    let image = pushed_image(&log);
    let (building, _) = log.split_once("\nPushing ").unwrap();
    // It has our name before the build ends, so that nobody's prune comes in between.
    assert!(
        building.contains("naming to docker.io/library/ocluster-build:worker-"),
        "{log}"
    );
    let labels = inspect(&docker, &image)
        .await
        .unwrap()
        .config
        .unwrap()
        .labels;
    assert_eq!(labels.unwrap().get(BUILT_BY.0).unwrap(), BUILT_BY.1);
    is_left_without_a_name(&docker, &image).await;
}

#[tokio::test]
async fn a_registry_with_a_login_takes_only_the_right_password() {
    needs_docker!("a_registry_with_a_login_takes_only_the_right_password");
    let (executor, docker) = engine().await;
    let registry = Registry::with_login("ci", PASSWORD).await;
    let repository = format!("{}/app", registry.address);
    let executor = pushing(&executor, &repository, SHORT);

    let (outcome, log) = build_for(&repository, Some(("ci", PASSWORD)))
        .run(&executor)
        .await;
    assert!(output(outcome, &log).starts_with(&format!("{repository}@sha256:")));
    let image = pushed_image(&log);
    assert!(
        log.contains(&format!("to \"{repository}:v1\" as user \"ci\"\n")),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
    is_left_without_a_name(&docker, &image).await;

    // A wrong password is told as such, at once, and is not shown either.
    let (outcome, log) = build_for(&repository, Some(("ci", "hunter3")))
        .run(&executor)
        .await;
    let failed = failure(outcome);
    assert_eq!(failed.cause, Cause::Request);
    let expected = "Failed to docker-login as \"ci\": login attempt ";
    assert!(failed.message.starts_with(expected), "{failed:?}");
    assert!(
        failed.message.ends_with("status: 401 Unauthorized"),
        "{failed:?}"
    );
    assert!(
        !log.contains("hunter3") && !log.contains("Retrying"),
        "{log}"
    );
    is_left_without_a_name(&docker, &pushed_image(&log)).await;

    // Without a login, the registry's answer is passed on.
    let (outcome, log) = build_for(&repository, None).run(&executor).await;
    let expected = format!("Failed to push \"{repository}:v1\": no basic auth credentials");
    assert_eq!(failure(outcome), Failure::request(expected));
    is_left_without_a_name(&docker, &pushed_image(&log)).await;
}

#[tokio::test]
async fn a_repository_that_is_not_allowed_is_refused_before_anything_is_built() {
    // No engine is asked either, so that none is needed here.
    let nowhere = DockerExecutor::new(DockerConfig::default());
    let executor = pushing(&nowhere, "team/other", SHORT);
    for repository in ["team/app", "127.0.0.1:5000/team/other"] {
        let (outcome, log) = build_for(repository, None).run(&executor).await;
        let expected = format!(
            "To allow pushing to this repository, start the worker with --allow-push \"{repository}\""
        );
        assert_eq!(failure(outcome), Failure::request(expected));
        assert_eq!(log, "");
    }
}

#[test]
fn d21_a_port_is_not_taken_for_a_tag() {
    let text = "localhost:5000/x";
    assert_eq!(
        text.parse::<ImageTarget>(),
        Err(ImageTargetError::MissingTag(text.to_owned()))
    );
}

#[tokio::test]
async fn a_registry_that_is_away_is_given_up_after_six_attempts() {
    needs_docker!("a_registry_that_is_away_is_given_up_after_six_attempts");
    let (executor, docker) = engine().await;
    // Nobody has listened on this port since it was closed.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let repository = format!("{address}/app");
    let metrics = Metrics::default();
    let executor = pushing(&executor, &repository, SHORT).counting_in(metrics.clone());
    for login in [None, Some(("ci", PASSWORD))] {
        let (outcome, log) = build_for(&repository, login).run(&executor).await;
        let failed = failure(outcome);
        assert_eq!(failed.cause, Cause::Registry);
        let before = match login {
            None => format!("Failed to push \"{repository}:v1\": "),
            Some((user, _)) => format!("Failed to docker-login as \"{user}\": "),
        };
        let after = "connection refused (gave up after 6 attempts)";
        assert!(
            failed.message.starts_with(&before) && failed.message.ends_with(after),
            "{failed:?}"
        );
        for attempt in 1..=5 {
            let line = format!("\nPush attempt {attempt}/6 failed with retryable error \"");
            assert!(log.contains(&line), "{log}");
        }
        assert_eq!(
            log.matches("\". Retrying in 0.0 seconds...\n").count(),
            5,
            "{log}"
        );
        is_left_without_a_name(&docker, &pushed_image(&log)).await;
    }
    assert_eq!(counted(&metrics), 2, "attempts are not pushes");
}

async fn is_pushed_by_the_third_attempt(manners: Manners) {
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let proxy = Proxy::before(&registry, manners).await;
    let repository = format!("{}/app", proxy.address);
    let executor = pushing(&executor, &repository, SHORT);
    let (outcome, log) = build_for(&repository, None).run(&executor).await;
    output(outcome, &log);
    assert!(log.contains("\nPush attempt 2/6 failed"), "{log}");
    assert!(!log.contains("\nPush attempt 3/6 failed"), "{log}");
    assert_eq!(proxy.seen.borrow().stored, 1);
    is_left_without_a_name(&docker, &pushed_image(&log)).await;
}

#[tokio::test]
async fn a_registry_that_is_unavailable_twice_gets_the_image_with_the_third_attempt_and_once() {
    needs_docker!(
        "a_registry_that_is_unavailable_twice_gets_the_image_with_the_third_attempt_and_once"
    );
    is_pushed_by_the_third_attempt(Manners::Unavailable(2)).await;
}

#[tokio::test]
async fn a_registry_that_breaks_off_twice_gets_the_image_with_the_third_attempt_and_once() {
    needs_docker!(
        "a_registry_that_breaks_off_twice_gets_the_image_with_the_third_attempt_and_once"
    );
    is_pushed_by_the_third_attempt(Manners::Cut(2)).await;
}

#[tokio::test]
async fn a_cancel_while_waiting_for_the_next_attempt_ends_the_job_at_once() {
    needs_docker!("a_cancel_while_waiting_for_the_next_attempt_ends_the_job_at_once");
    let (executor, docker) = engine().await;
    let executor = pushing(&executor, "127.0.0.1:9/app", LONG);
    let mut running = build_for("127.0.0.1:9/app", None).start(executor);
    let rest = running.rest_of_line("\nPush attempt 1/6 ").await;
    assert!(rest.contains("Retrying in "), "{rest}");
    let image = pushed_image(&String::from_utf8_lossy(&running.log.borrow()));
    // Meanwhile the image has our name, against anybody's prune; the target's name is nobody's.
    let names = inspect(&docker, &image).await.unwrap().repo_tags.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("ocluster-build:worker-."), "{names:?}");
    assert!(inspect(&docker, "127.0.0.1:9/app:v1").await.is_none());

    let start = Instant::now();
    running.cancel.cancel();
    let (outcome, _) = running.end().await;
    assert_eq!(outcome, Outcome::Cancelled);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "took {took:?}");
    is_left_without_a_name(&docker, &image).await;
}

#[tokio::test]
async fn a_cancel_during_a_push_stops_it_in_the_engine() {
    needs_docker!("a_cancel_during_a_push_stops_it_in_the_engine");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let mut proxy = Proxy::before(&registry, Manners::Stuck).await;
    let repository = format!("{}/app", proxy.address);
    let running = large_build_for(&repository).start(pushing(&executor, &repository, LONG));
    proxy.until(|seen| seen.held > 0).await;
    running.cancel.cancel();
    let (outcome, log) = running.end().await;
    assert_eq!(outcome, Outcome::Cancelled);
    proxy.drain();
    assert_eq!(proxy.until(|seen| seen.hung_up > 0).await.stored, 0);
    assert!(
        inspect(&docker, &format!("{repository}:v1"))
            .await
            .is_none()
    );
    is_left_without_a_name(&docker, &pushed_image(&log)).await;
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_given_up() {
    needs_docker!("a_registry_that_falls_silent_is_given_up");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let mut proxy = Proxy::before(&registry, Manners::Stuck).await;
    let repository = format!("{}/app", proxy.address);
    let patient = pushing(&executor, &repository, Retries { times: 1, ..SHORT });
    let mut config = patient.config().clone();
    config.push.silence_limit = Duration::from_secs(2);
    let executor = DockerExecutor::new(config);
    let (outcome, log) = large_build_for(&repository).run(&executor).await;
    let expected = format!(
        "Failed to push \"{repository}:v1\": no progress for 2 seconds (gave up after 2 attempts)"
    );
    let failed = failure(outcome);
    assert_eq!((failed.cause, failed.message), (Cause::Registry, expected));
    proxy.drain();
    proxy.until(|seen| seen.hung_up > 0).await;
    is_left_without_a_name(&docker, &pushed_image(&log)).await;
}

#[tokio::test]
async fn a_name_that_somebody_has_given_to_another_image_is_theirs_again_afterwards() {
    needs_docker!("a_name_that_somebody_has_given_to_another_image_is_theirs_again_afterwards");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let repository = format!("{}/app", registry.address);
    let options = TagImageOptionsBuilder::new()
        .repo(&repository)
        .tag("v1")
        .build();
    docker.tag_image(BASE, Some(options)).await.unwrap();
    let theirs = inspect(&docker, BASE).await.unwrap().id;
    let executor = pushing(&executor, &repository, SHORT);
    let (outcome, log) = build_for(&repository, None).run(&executor).await;
    output(outcome, &log);
    let name = format!("{repository}:v1");
    assert_eq!(inspect(&docker, &name).await.unwrap().id, theirs);
    let image = inspect(&docker, &pushed_image(&log)).await.unwrap();
    assert_eq!(image.repo_tags.unwrap_or_default(), [""; 0]);
    remove(&docker, &name).await;
    remove(&docker, &image.id.unwrap()).await;
}

#[tokio::test]
async fn pushes_to_one_name_at_the_same_time_give_each_its_own_digest() {
    needs_docker!("pushes_to_one_name_at_the_same_time_give_each_its_own_digest");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let repository = format!("{}/app", registry.address);
    let executor = pushing(&executor, &repository, SHORT);
    let running: Vec<_> = (0..4)
        .map(|_| build_for(&repository, None).start(executor.clone()))
        .collect();
    for job in running {
        let (outcome, log) = job.end().await;
        let name = output(outcome, &log);
        let image = pushed_image(&log);
        is_left_without_a_name(&docker, &image).await;
        let pull = CreateImageOptionsBuilder::new().from_image(&name).build();
        let pulled = docker.create_image(Some(pull), None, None);
        pulled.try_for_each(async |_| Ok(())).await.unwrap();
        assert_eq!(inspect(&docker, &name).await.unwrap().id.unwrap(), image);
        remove(&docker, &name).await;
    }
    assert!(
        inspect(&docker, &format!("{repository}:v1"))
            .await
            .is_none()
    );
}

#[tokio::test]
async fn names_that_a_killed_worker_left_are_removed_by_the_same_worker_and_by_no_other() {
    needs_docker!("names_that_a_killed_worker_left_are_removed_by_the_same_worker_and_by_no_other");
    let (executor, docker) = engine().await;
    let state = tempfile::TempDir::new().unwrap();
    let worker = |name: &str| {
        let mut config = pushing(&executor, "127.0.0.1:9/app", LONG).config().clone();
        config.worker = Some(WorkerMark::new(name, Path::new(state.path())));
        DockerExecutor::new(config)
    };
    // When a worker is killed while it waits to push again,
    let mut running = build_for("127.0.0.1:9/app", None).start(worker("builder"));
    running.rest_of_line("\nPush attempt 1/6 ").await;
    let image = pushed_image(&String::from_utf8_lossy(&running.log.borrow()));
    running.outcome.abort();
    // (other names of the image are the operator's)
    let theirs = TagImageOptionsBuilder::new()
        .repo("127.0.0.1:9/app")
        .tag("theirs");
    docker
        .tag_image(&image, Some(theirs.build()))
        .await
        .unwrap();
    // (if it was killed while it pushed, the image has the name of the push target, too)
    let options = TagImageOptionsBuilder::new()
        .repo("127.0.0.1:9/app")
        .tag("v1");
    docker
        .tag_image(&image, Some(options.build()))
        .await
        .unwrap();
    let names = || async {
        let image = inspect(&docker, &image).await.expect("the image is gone");
        image.repo_tags.unwrap_or_default()
    };
    // then its name stays, also when another worker starts,
    worker("builder-2").remove_leftover_names().await;
    let left = names().await;
    let is_ours = |name: &String| name.starts_with("ocluster-build:worker-builder-");
    assert!(left.len() == 3 && left.iter().any(is_ours), "{left:?}");
    // until the worker starts again; and the image stays.
    worker("builder").remove_leftover_names().await;
    assert_eq!(names().await, ["127.0.0.1:9/app:theirs"]);
    remove(&docker, "127.0.0.1:9/app:theirs").await;
}

#[tokio::test]
async fn an_engine_that_restarts_during_a_push_is_used_again() {
    needs_docker!("an_engine_that_restarts_during_a_push_is_used_again");
    let (executor, docker) = engine().await;
    let registry = Registry::open().await;
    let repository = format!("{}/app", registry.address);
    let way = BreakingWay::to(&executor.config().engine).await;
    let mut config = pushing(&executor, &repository, SHORT).config().clone();
    config.engine = EngineAddress::Unix(way.socket.clone());
    let (outcome, log) = build_for(&repository, None)
        .run(&DockerExecutor::new(config))
        .await;
    output(outcome, &log);
    let expected = format!(
        "\nPush attempt 1/6 failed with retryable error \"lost the Docker engine at unix://{} during the push: ",
        way.socket.display()
    );
    assert!(log.contains(&expected), "{log}");
    is_left_without_a_name(&docker, &pushed_image(&log)).await;
}

/// Someone who takes connections and never says a word, in the network of a private engine.
struct Mute(Child);

impl Mute {
    fn start(engine: &PrivateEngine, port: u16) -> Self {
        let within = |words: &[&str]| {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--target={}", engine.pid()))
                .arg("--net")
                .arg("busybox")
                .args(words)
                .stdin(Stdio::null());
            command
        };
        let up = within(&["ip", "link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let port = port.to_string();
        // It says what it is told to, which is nothing, as long as that may still come.
        let mut mute = within(&["nc", "-l", "-p", &port]);
        mute.stdin(Stdio::piped()).stdout(Stdio::null());
        Self(mute.spawn().unwrap())
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_engine_that_is_killed_during_a_push_is_named() {
    needs_docker!("an_engine_that_is_killed_during_a_push_is_named");
    let mut engine = PrivateEngine::start().await;
    let _mute = Mute::start(&engine, 5000);
    let executor = pushing(&engine.executor(), "127.0.0.1:5000/app", SHORT);
    let mut running = build_for("127.0.0.1:5000/app", None).start(executor);
    running.rest_of_line("\nThe push refers to ").await;
    engine.kill();
    let start = Instant::now();
    let (outcome, _) = running.end().await;
    assert!(start.elapsed() < PATIENCE / 2);
    let failed = failure(outcome);
    assert_eq!(failed.cause, Cause::Engine);
    let expected = format!(
        "Failed to push \"127.0.0.1:5000/app:v1\": lost the Docker engine at unix://{} during the push: ",
        engine.socket().display()
    );
    assert!(failed.message.starts_with(&expected), "{failed:?}");
    assert!(
        failed.message.ends_with(" (gave up after 6 attempts)"),
        "{failed:?}"
    );
}
