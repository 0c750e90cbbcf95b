//! Workers that run short of room: on engines of their own, never on the one that others use.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::query_parameters::{
    BuildImageOptionsBuilder, TagImageOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{Docker, body_full};
use docker_support::pool::{Event, Pool, RunningWorker};
use docker_support::private::PrivateEngine;
use docker_support::{BASE, Job, PATIENCE};
use futures::StreamExt as _;
use ocluster_worker::disk_care::{DiskLimit, ImagesSize, PruneScope};
use ocluster_worker::executor::{DockerConfig, DockerExecutor, EngineAddress, Executors, Outcome};
use ocluster_worker::{Config, PRUNE_RETRY};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// "At once", for a worker that says goodbye properly.
const AT_ONCE: Duration = Duration::from_secs(5);

fn worker(pool: &Pool, docker: DockerExecutor, limit: DiskLimit) -> RunningWorker {
    worker_with(pool, docker, limit, PruneScope::All, PRUNE_RETRY)
}

fn worker_with(
    pool: &Pool,
    docker: DockerExecutor,
    limit: DiskLimit,
    prune_scope: PruneScope,
    prune_retry: Duration,
) -> RunningWorker {
    let cap = pool.cap();
    RunningWorker::start(move |state_dir| Config {
        capacity: 2,
        executors: Executors {
            docker: Some(Arc::new(docker)),
            test_kind: true,
            ..Executors::default()
        },
        disk_limit: Some(limit),
        prune_scope,
        prune_retry,
        health_check: None,
        ..Config::new(cap, "w", state_dir)
    })
}

fn free(percent: &str) -> DiskLimit {
    DiskLimit::Free(percent.parse().unwrap())
}

async fn has_image(docker: &Docker, image: &str) -> bool {
    docker.inspect_image(image).await.is_ok()
}

async fn wait_until_gone(docker: &Docker, image: &str) {
    let start = Instant::now();
    while has_image(docker, image).await {
        assert!(start.elapsed() < PATIENCE, "{image} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A small disk, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Self {
        let directory = TempDir::new().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(
            status.unwrap().success(),
            "cannot mount a tmpfs: run the tests as root"
        );
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Makes the file for which a build step waits.
async fn open_gate(docker: &Docker, container: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(0);
    tar.append_data(&mut header, "gate", std::io::empty())
        .unwrap();
    let options = UploadToContainerOptionsBuilder::new().path("/tmp").build();
    let body = body_full(tar.into_inner().unwrap().into());
    docker
        .upload_to_container(container, Some(options), body)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_worker_whose_disk_fills_finishes_its_jobs_prunes_and_comes_back() {
    needs_docker!("a_worker_whose_disk_fills_finishes_its_jobs_prunes_and_comes_back");
    // Given an engine on a small disk with plenty of room, a worker that asks for jobs,
    // (An engine without overlay copies a layer several times while it adds the next one.)
    let disk = SmallDisk::mount(256);
    let engine = PrivateEngine::start_on(disk.path()).await;
    let docker = engine.docker();
    assert_eq!(engine.executor().root_dir().await.unwrap(), disk.path());
    let mut pool = Pool::start();
    let _worker = worker(&pool, engine.executor(), free("85"));
    assert_eq!(pool.next().await, Event::Asked);
    // somebody else's build that runs on the same engine,
    let mut build = Job::fresh(
        "RUN while [ ! -e /tmp/gate ]; do sleep 0.05; done\nRUN echo $(cat /nonce) is here",
    )
    .start(engine.executor());
    let container = build.rest_of_line(" ---> Running in ").await;
    // and an image that nobody uses and that takes a fifth of the disk.
    let big = Job::fresh("RUN dd if=/dev/zero of=/big bs=1M count=45");
    let (outcome, log) = big.run(&engine.executor()).await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{log}");
    let (_, image) = log.trim_end().rsplit_once("Successfully built ").unwrap();
    let tag = TagImageOptionsBuilder::new().repo("big").build();
    docker.tag_image(image, Some(tag)).await.unwrap();

    // When the worker gets a job, it sees that room is short before it asks for another,
    pool.give_endless_job();
    assert_eq!(pool.next().await, Event::Active(false));
    // and prunes nothing while its job runs, for longer than a prune takes here.
    let patience = Instant::now();
    while patience.elapsed() < Duration::from_secs(2) {
        pool.ping().await;
        assert!(has_image(&docker, "big").await && pool.nothing_happened());
    }

    // When the job has ended, it prunes, comes back and asks again.
    pool.drop_jobs();
    assert_eq!(pool.next().await, Event::Active(true));
    assert_eq!(pool.next().await, Event::Asked);
    assert!(!has_image(&docker, "big").await);
    // What the other build needs is still there.
    open_gate(&docker, &container).await;
    let (outcome, log) = build.end().await;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{log}");
    assert!(log.contains(" is here\n"), "{log}");
}

#[tokio::test]
async fn d10_a_worker_that_cannot_free_space_goes_on_answering() {
    needs_docker!("d10_a_worker_that_cannot_free_space_goes_on_answering");
    let engine = PrivateEngine::start().await;
    let mut pool = Pool::start();
    // No disk that holds anything is free to 100%.
    let worker = worker(&pool, engine.executor(), free("100"));
    assert_eq!(pool.next().await, Event::Active(false));
    // It has pruned, in vain, and waits for better times.
    wait_until_gone(&engine.docker(), BASE).await;
    for _ in 0..1000 {
        pool.ping().await;
    }
    assert!(pool.nothing_happened());
    let took = worker.stop();
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn images_that_take_too_much_are_pruned() {
    needs_docker!("images_that_take_too_much_are_pruned");
    let engine = PrivateEngine::start().await;
    let size = engine.executor().images_size().await.unwrap();
    assert!((500_000..5_000_000).contains(&size), "busybox has {size}");
    let limit = DiskLimit::Images(ImagesSize::from_bytes(size));
    // What is exactly as much as allowed stays.
    let mut pool = Pool::start();
    let content = worker(&pool, engine.executor(), limit);
    assert_eq!(pool.next().await, Event::Asked);
    content.stop();
    assert!(has_image(&engine.docker(), BASE).await);

    let limit = DiskLimit::Images(ImagesSize::from_bytes(size - 1));
    let mut pool = Pool::start();
    let _worker = worker(&pool, engine.executor(), limit);
    assert_eq!(pool.next().await, Event::Active(false));
    assert_eq!(pool.next().await, Event::Active(true));
    assert_eq!(pool.next().await, Event::Asked);
    assert!(!has_image(&engine.docker(), BASE).await);
    assert_eq!(engine.executor().images_size().await.unwrap(), 0);
}

/// Builds an image of some megabytes, with or without the label of workers.
async fn build_image(docker: &Docker, name: &str, ours: bool) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    };
    add("Dockerfile", b"FROM scratch\nCOPY ballast /ballast\n");
    add(
        "ballast",
        docker_support::nonce().repeat(200_000).as_bytes(),
    );
    let label = ("ocluster.built-by", "ocluster-worker");
    let labels: HashMap<_, _> = ours.then_some(label).into_iter().collect();
    let options = BuildImageOptionsBuilder::new().t(name).labels(&labels);
    let body = body_full(tar.into_inner().unwrap().into());
    let mut messages = docker.build_image(options.build(), None, Some(body));
    while let Some(message) = messages.next().await {
        message.unwrap();
    }
}

#[tokio::test]
async fn what_workers_have_built_goes_first_and_what_others_have_stays_if_that_is_enough() {
    needs_docker!(
        "what_workers_have_built_goes_first_and_what_others_have_stays_if_that_is_enough"
    );
    let engine = PrivateEngine::start().await;
    let docker = engine.docker();
    build_image(&docker, "ours", true).await;
    build_image(&docker, "theirs", false).await;
    let size = engine.executor().images_size().await.unwrap();
    let limit = DiskLimit::Images(ImagesSize::from_bytes(size - 1));
    let mut pool = Pool::start_explained();
    let _worker = worker(&pool, engine.executor(), limit);
    let Event::Inactive(reason) = pool.next().await else {
        panic!("it gives no reason");
    };
    assert!(
        reason.starts_with("pruning Docker: Docker's images take "),
        "{reason}"
    );
    assert_eq!(pool.next().await, Event::Active(true));
    assert!(!has_image(&docker, "ours").await);
    assert!(has_image(&docker, "theirs").await && has_image(&docker, BASE).await);
}

#[tokio::test]
async fn what_others_have_stays_in_any_case_if_the_operator_wants_that() {
    needs_docker!("what_others_have_stays_in_any_case_if_the_operator_wants_that");
    let engine = PrivateEngine::start().await;
    let docker = engine.docker();
    build_image(&docker, "ours", true).await;
    build_image(&docker, "theirs", false).await;
    let limit = DiskLimit::Images(ImagesSize::from_bytes(0));
    let mut pool = Pool::start_explained();
    let _worker = worker_with(
        &pool,
        engine.executor(),
        limit,
        PruneScope::Own,
        PRUNE_RETRY,
    );
    let mut reason = String::new();
    while !reason.starts_with("Docker has been pruned, and yet Docker's images take ") {
        match pool.next().await {
            Event::Inactive(said) => reason = said,
            other => panic!("{other:?} after {reason:?}"),
        }
    }
    assert!(!has_image(&docker, "ours").await);
    assert!(has_image(&docker, "theirs").await && has_image(&docker, BASE).await);
}

#[tokio::test]
async fn an_engine_that_goes_away_during_a_prune_is_pruned_when_it_is_back() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    let (noted, mut seen) = mpsc::unbounded_channel();
    let listener = UnixListener::bind(&socket).unwrap();
    let first = tokio::spawn(engine_of_a_hoarder(listener, noted.clone()));
    let mut pool = Pool::start_explained();
    let limit = DiskLimit::Images("2000".parse().unwrap());
    let soon = Duration::from_millis(100);
    let _worker = worker_with(&pool, executor_at(&socket), limit, PruneScope::Own, soon);
    assert!(matches!(pool.next().await, Event::Inactive(_)));
    let mut next = async || tokio::time::timeout(PATIENCE, seen.recv()).await.unwrap();
    assert!(next().await.unwrap().starts_with("POST /images/prune?"));

    // It goes in the middle of that, with all its connections.
    first.abort();
    std::fs::remove_file(&socket).unwrap();
    let Event::Inactive(reason) = pool.next().await else {
        panic!("it does not say that it still has no room");
    };
    assert!(
        reason.contains("it cannot be told whether there is room")
            && reason.contains("docker.sock"),
        "{reason}"
    );
    // It comes back, and the prune is begun again.
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(engine_of_a_hoarder(listener, noted));
    assert!(next().await.unwrap().starts_with("POST /images/prune?"));
}

fn executor_at(socket: &Path) -> DockerExecutor {
    DockerExecutor::new(DockerConfig {
        engine: EngineAddress::Unix(socket.to_owned()),
        ..Default::default()
    })
}

#[tokio::test]
async fn an_engine_that_is_away_keeps_no_job_away() {
    let mut pool = Pool::start();
    let away = executor_at(Path::new("/nonexistent/docker.sock"));
    let _worker = worker(&pool, away, free("100"));
    assert_eq!(pool.next().await, Event::Asked);
    // Not for the second slot either.
    pool.give_endless_job();
    assert_eq!(pool.next().await, Event::Asked);
}

/// Tells of 2.7 TB of images, and never ends a prune. Says who asked for one, and when he has hung up.
async fn engine_of_a_hoarder(listener: UnixListener, seen: mpsc::UnboundedSender<String>) {
    // The connections go with the engine.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        connections.spawn(serve_hoarder(connection, seen.clone()));
    }
}

async fn serve_hoarder(
    mut connection: UnixStream,
    seen: mpsc::UnboundedSender<String>,
) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(connection.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).unwrap();
    if request.contains("/prune") {
        let first_line = request.lines().next().unwrap().to_owned();
        seen.send(first_line).ok()?;
        while connection.read_u8().await.is_ok() {}
        return seen.send("hung up".to_owned()).ok();
    }
    let body = r#"{"LayersSize":2748779069440,"Images":[{"Id":"x"}]}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    connection
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .ok()
}

#[tokio::test]
async fn a_prune_that_hangs_is_given_up_at_once_when_the_worker_stops() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("docker.sock");
    let (noted, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(engine_of_a_hoarder(
        UnixListener::bind(&socket).unwrap(),
        noted,
    ));
    let mut pool = Pool::start();
    // Two terabytes are allowed, and 2.7 are too many.
    let limit = DiskLimit::Images("2000".parse().unwrap());
    let worker = worker(&pool, executor_at(&socket), limit);
    assert_eq!(pool.next().await, Event::Active(false));
    let mut next = async || tokio::time::timeout(PATIENCE, seen.recv()).await.unwrap();
    let first = next().await.unwrap();
    assert!(first.starts_with("POST /images/prune?"), "{first}");

    // It answers all the while.
    pool.ping().await;
    let took = tokio::task::spawn_blocking(|| worker.stop()).await.unwrap();
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(next().await.as_deref(), Some("hung up"));
    assert!(pool.nothing_happened());
}
