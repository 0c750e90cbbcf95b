//! When base images are pulled, with a real registry on this machine.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::Docker;
use bollard::query_parameters::{
    PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use docker_support::registry::Registry;
use docker_support::{BASE, Job, engine};
use futures::StreamExt;
use ocluster_api::{Push, RegistryLogin, SecretBytes};
use ocluster_worker::executor::docker::PushConfig;
use ocluster_worker::executor::{DockerConfig, DockerExecutor, Outcome, Pull};
use tempfile::TempDir;

/// A password whose usual encoding has letters that engines do not read.
const PASSWORD: &str = "hunter2?~~>\u{fc}";

/// Builds an image that knows its version, and returns its name in the engine.
async fn versioned_image(executor: &DockerExecutor, version: &str) -> String {
    let (outcome, log) = Job::fresh(&format!("RUN echo {version} > /version"))
        .run(executor)
        .await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{log}");
    log.trim_end()
        .rsplit_once("Successfully built ")
        .unwrap()
        .1
        .to_owned()
}

async fn tag(docker: &Docker, image: &str, repository: &str) {
    let options = TagImageOptionsBuilder::new()
        .repo(repository)
        .tag("latest")
        .build();
    docker.tag_image(image, Some(options)).await.unwrap();
}

async fn push(docker: &Docker, repository: &str) {
    let options = PushImageOptionsBuilder::new().tag("latest").build();
    let messages: Vec<_> = docker
        .push_image(repository, Some(options), None)
        .collect()
        .await;
    messages
        .into_iter()
        .for_each(|message| drop(message.unwrap()));
}

/// What a build from the repository finds in its base image, or its log if it fails.
async fn version_seen(pull: Pull, repository: &str) -> Result<(String, String), String> {
    version_seen_by(false, pull, repository).await
}

/// The same with the builder of choice.
async fn version_seen_by(
    buildkit: bool,
    pull: Pull,
    repository: &str,
) -> Result<(String, String), String> {
    let (executor, _) = engine().await;
    let executor = DockerExecutor::new(DockerConfig {
        pull,
        ..executor.config().clone()
    });
    let mut job = Job::new(format!(
        "FROM {repository}:latest\nCOPY nonce /nonce\nRUN echo version $(cat /version)\n"
    ))
    .with_file("nonce", docker_support::nonce());
    job.build.buildkit = buildkit;
    match job.run(&executor).await {
        (Outcome::Succeeded { .. }, log) => {
            let version = log
                .rsplit_once(if buildkit { " version " } else { "\nversion " })
                .unwrap()
                .1
                .split_once('\n')
                .unwrap()
                .0
                .to_owned();
            Ok((version, log))
        }
        (_, log) => Err(log),
    }
}

#[tokio::test]
async fn always_asks_the_registry_and_missing_does_only_if_it_must() {
    needs_docker!("always_asks_the_registry_and_missing_does_only_if_it_must");
    let (executor, docker) = engine().await;
    let mut registry = Registry::open().await;
    let repository = format!("{}/team/base", registry.address);
    let old = versioned_image(&executor, "old").await;
    let new = versioned_image(&executor, "new").await;
    tag(&docker, &new, &repository).await;
    push(&docker, &repository).await;
    // The registry has moved on; this machine still has the old image under that name.
    tag(&docker, &old, &repository).await;

    assert_eq!(
        version_seen(Pull::Missing, &repository).await.unwrap().0,
        "old"
    );
    let (version, log) = version_seen(Pull::Always, &repository).await.unwrap();
    assert_eq!(version, "new");
    assert!(
        log.contains("latest: Pulling from team/base\n") && log.contains("\nStatus: "),
        "{log}"
    );

    // An image that is missing is pulled in either case, and without progress bars in the log.
    docker
        .remove_image(
            &format!("{repository}:latest"),
            None::<RemoveImageOptions>,
            None,
        )
        .await
        .unwrap();
    docker
        .remove_image(&new, None::<RemoveImageOptions>, None)
        .await
        .ok();
    let (version, log) = version_seen(Pull::Missing, &repository).await.unwrap();
    assert_eq!(version, "new");
    assert!(log.contains("latest: Pulling from team/base\n"), "{log}");
    assert!(!log.contains("[=") && !log.contains("Downloading"), "{log}");

    // Without the registry, only `missing` can work.
    registry.stop();
    assert_eq!(
        version_seen(Pull::Missing, &repository).await.unwrap().0,
        "new"
    );
    let log = version_seen(Pull::Always, &repository).await.unwrap_err();
    assert!(log.contains("connection refused"), "{log}");
    docker
        .remove_image(
            &format!("{repository}:latest"),
            None::<RemoveImageOptions>,
            None,
        )
        .await
        .unwrap();
    assert!(docker.inspect_image(BASE).await.is_ok());
}

#[tokio::test]
async fn buildkit_asks_the_registry_just_as_often() {
    needs_docker!("buildkit_asks_the_registry_just_as_often");
    let (executor, docker) = engine().await;
    let mut registry = Registry::open().await;
    let repository = format!("{}/team/base", registry.address);
    let old = versioned_image(&executor, "old").await;
    let new = versioned_image(&executor, "new").await;
    tag(&docker, &new, &repository).await;
    push(&docker, &repository).await;
    tag(&docker, &old, &repository).await;
    let version = async |pull| version_seen_by(true, pull, &repository).await;

    assert_eq!(version(Pull::Missing).await.unwrap().0, "old");
    assert_eq!(version(Pull::Always).await.unwrap().0, "new");
    registry.stop();
    assert_eq!(version(Pull::Missing).await.unwrap().0, "old");
    let log = version(Pull::Always).await.unwrap_err();
    assert!(log.contains("connection refused"), "{log}");
    docker
        .remove_image(
            &format!("{repository}:latest"),
            None::<RemoveImageOptions>,
            None,
        )
        .await
        .unwrap();
}

/// Builds an image and pushes it as `repository:latest`. Neither of its names stays on the engine.
async fn push_with_login(executor: &DockerExecutor, repository: &str, user: &str) {
    let executor = DockerExecutor::new(DockerConfig {
        push: PushConfig {
            allowed: [repository.parse().unwrap()].into(),
            ..PushConfig::default()
        },
        ..executor.config().clone()
    });
    let mut job = Job::fresh("");
    job.build.push = Some(Push {
        target: format!("{repository}:latest").parse().unwrap(),
        login: Some(RegistryLogin {
            user: user.to_owned(),
            password: SecretBytes::new(PASSWORD.as_bytes().to_vec()),
        }),
    });
    let (outcome, log) = job.run(&executor).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{log}");
}

#[tokio::test]
async fn base_images_are_pulled_with_the_logins_of_the_worker_s_user() {
    needs_docker!("base_images_are_pulled_with_the_logins_of_the_worker_s_user");
    let (executor, docker) = engine().await;
    let registry = Registry::with_login("ci", PASSWORD).await;
    let repository = format!("{}/team/private", registry.address);
    push_with_login(&executor, &repository, "ci").await;

    let directory = TempDir::new().unwrap();
    let file = directory.path().join("config.json");
    let executor = DockerExecutor::new(DockerConfig {
        pull: Pull::Always,
        logins: Some(file.clone()),
        ..executor.config().clone()
    });
    let build = async |buildkit| {
        let mut job = Job::new(format!("FROM {repository}\nCOPY nonce /nonce2\n"))
            .with_file("nonce", docker_support::nonce());
        job.build.buildkit = buildkit;
        let (outcome, log) = job.run(&executor).await;
        assert!(!log.contains("hunter2"), "{log}");
        (matches!(outcome, Outcome::Succeeded { .. }), log)
    };
    let login_with = |password: &str| {
        let auth = BASE64_STANDARD.encode(format!("ci:{password}"));
        let address = &registry.address;
        let text = format!(r#"{{"auths": {{"{address}": {{"auth": "{auth}"}}}}}}"#);
        std::fs::write(&file, text).unwrap();
    };

    let none = None::<RemoveImageOptions>;
    for (buildkit, refused) in [
        (false, "no basic auth credentials"),
        (true, "401 Unauthorized"),
    ] {
        // No file, then one that is broken: the build goes on without logins, and so this registry refuses it.
        std::fs::remove_file(&file).ok();
        let (built, log) = build(buildkit).await;
        assert!(!built && log.contains(refused), "{log}");
        std::fs::write(&file, "{").unwrap();
        let (built, log) = build(buildkit).await;
        assert!(!built && log.contains(refused), "{log}");
        // A login that is wrong, and then the right one: each build reads the file anew.
        login_with("something else");
        let (built, log) = build(buildkit).await;
        assert!(!built, "{log}");
        login_with(PASSWORD);
        let (built, log) = build(buildkit).await;
        assert!(built, "{log}");
        let mark = if buildkit {
            "writing image "
        } else {
            "Successfully built "
        };
        let (_, image) = log.rsplit_once(mark).unwrap();
        let image = image.split_whitespace().next().unwrap();
        docker
            .remove_image(image, none.clone(), None)
            .await
            .unwrap();
    }
    let name = format!("{repository}:latest");
    docker.remove_image(&name, none, None).await.unwrap();
}
