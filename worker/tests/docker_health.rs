//! Workers whose engine is unwell: they take no jobs, say why, keep what runs, and are back when the engine is.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use docker_support::pool::{Event, Pool, RunningWorker};
use ocluster_api::{Action, DockerBuild, Dockerfile, JobSpec};
use ocluster_worker::Config;
use ocluster_worker::executor::{DockerConfig, DockerExecutor, EngineAddress, Executors};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// So seldom that a test sees only the looks that something else has caused.
const SELDOM: Duration = Duration::from_secs(100_000);
/// So often that a test need not wait.
const OFTEN: Duration = Duration::from_millis(100);

/// How an engine behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Takes connections and says nothing.
    Silent,
    /// Answers a ping, and fails at everything else.
    Broken,
}

/// An engine that answers what a health check asks, or not.
struct MoodyEngine {
    directory: TempDir,
    mood: watch::Sender<Mood>,
    server: Option<JoinHandle<()>>,
}

impl MoodyEngine {
    /// There is none yet.
    fn absent() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            mood: watch::Sender::new(Mood::Well),
            server: None,
        }
    }

    fn start(mood: Mood) -> Self {
        let mut engine = Self::absent();
        engine.comes();
        engine.is(mood);
        engine
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn comes(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let mood = self.mood.clone();
        self.server = Some(tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(connection, mood.clone()));
            }
        }));
    }

    fn goes(&mut self) {
        self.server.take().unwrap().abort();
        std::fs::remove_file(self.socket()).unwrap();
    }

    fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

async fn serve(mut connection: UnixStream, mood: watch::Sender<Mood>) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(connection.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).unwrap();
    let mood = *mood.borrow();
    let (status, body) = match mood {
        Mood::Silent => std::future::pending().await,
        _ if request.contains("/_ping") => ("200 OK", "OK"),
        Mood::Broken => (
            "500 Internal Server Error",
            r#"{"message":"the storage is read-only"}"#,
        ),
        Mood::Well if request.contains("/version") => {
            ("200 OK", r#"{"Version":"1","ApiVersion":"1.41"}"#)
        }
        Mood::Well => ("200 OK", r#"{"DockerRootDir":"/var/lib/docker"}"#),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    connection.write_all(answer.as_bytes()).await.ok()
}

/// A worker with two slots on this engine, which looks at it once in `period`.
fn worker(pool: &Pool, engine: &MoodyEngine, period: Duration, test_jobs: bool) -> RunningWorker {
    let cap = pool.cap();
    let docker = DockerExecutor::new(DockerConfig {
        engine: EngineAddress::Unix(engine.socket()),
        answer_timeout: Duration::from_secs(1),
        ..DockerConfig::default()
    });
    RunningWorker::start(move |state_dir| Config {
        capacity: 2,
        executors: Executors {
            docker: Some(Arc::new(docker)),
            test_kind: test_jobs,
            ..Executors::default()
        },
        health_check: Some(period),
        ..Config::new(cap, "w", state_dir)
    })
}

fn build() -> JobSpec {
    let action = Action::Docker(DockerBuild {
        dockerfile: Dockerfile::Contents("FROM scratch\n".to_owned()),
        push: None,
        build_args: vec![],
        squash: false,
        buildkit: false,
        include_git: false,
    });
    JobSpec {
        action,
        cache_hint: String::new(),
        source: None,
        secrets: vec![],
    }
}

/// The reason that the worker gives, which is what it does next.
async fn reason(pool: &mut Pool) -> String {
    match pool.next().await {
        Event::Inactive(reason) => reason,
        other => panic!("the worker does something else: {other:?}"),
    }
}

#[tokio::test]
async fn an_engine_that_is_away_at_the_start_is_waited_for_with_the_worker_in_its_pool() {
    let mut engine = MoodyEngine::absent();
    let mut pool = Pool::start_explained();
    let _worker = worker(&pool, &engine, OFTEN, false);
    let reason = reason(&mut pool).await;
    let socket = engine.socket().display().to_string();
    assert!(
        reason.contains("cannot reach the Docker engine") && reason.contains(&socket),
        "{reason}"
    );
    pool.ping().await;
    assert!(pool.nothing_happened(), "it asks for no job");
    engine.comes();
    assert_eq!(pool.next().await, Event::Active(true));
    assert_eq!(pool.next().await, Event::Asked);
}

#[tokio::test]
async fn an_engine_that_hangs_keeps_jobs_away_until_it_is_well_again() {
    keeps_jobs_away(Mood::Silent, "it does not answer in time").await;
}

#[tokio::test]
async fn an_engine_that_only_answers_pings_keeps_jobs_away_until_it_is_well_again() {
    keeps_jobs_away(Mood::Broken, "the storage is read-only").await;
}

async fn keeps_jobs_away(mood: Mood, words: &str) {
    let engine = MoodyEngine::start(mood);
    let mut pool = Pool::start_explained();
    let _worker = worker(&pool, &engine, OFTEN, false);
    let reason = reason(&mut pool).await;
    assert!(reason.contains(words), "{reason}");
    engine.is(Mood::Well);
    assert_eq!(pool.next().await, Event::Active(true));
    assert_eq!(pool.next().await, Event::Asked);
}

#[tokio::test]
async fn an_engine_that_falls_ill_stops_new_jobs_and_leaves_running_ones_alone() {
    let mut engine = MoodyEngine::start(Mood::Well);
    let mut pool = Pool::start_explained();
    let _worker = worker(&pool, &engine, OFTEN, true);
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job();
    assert_eq!(pool.next().await, Event::Asked);
    engine.goes();
    reason(&mut pool).await;
    assert_eq!(pool.jobs().await, 1, "the running job goes on");
    engine.comes();
    assert_eq!(pool.next().await, Event::Active(true));
    // The question from before is still open; it is not asked again.
    assert!(pool.nothing_happened());
    pool.give_endless_job();
    pool.drop_jobs();
    assert_eq!(pool.next().await, Event::Asked);
}

#[tokio::test]
async fn a_job_that_fails_because_of_the_engine_is_the_last_until_the_engine_is_well() {
    let mut engine = MoodyEngine::start(Mood::Well);
    let mut pool = Pool::start_explained();
    let _worker = worker(&pool, &engine, SELDOM, false);
    assert_eq!(pool.next().await, Event::Asked);
    engine.goes();
    pool.give(build());
    // The other slot's question may have been on its way.
    let mut told = pool.next().await;
    if told == Event::Asked {
        told = pool.next().await;
    }
    assert!(matches!(&told, Event::Inactive(_)), "{told:?}");
    engine.comes();
    assert_eq!(pool.next().await, Event::Active(true));
}

#[tokio::test]
async fn a_scheduler_that_knows_no_reasons_is_told_of_the_pause_alone() {
    let mut engine = MoodyEngine::absent();
    let mut pool = Pool::start();
    let _worker = worker(&pool, &engine, OFTEN, false);
    assert_eq!(pool.next().await, Event::Active(false));
    engine.comes();
    assert_eq!(pool.next().await, Event::Active(true));
    assert_eq!(pool.next().await, Event::Asked);
}

#[tokio::test]
async fn a_worker_for_other_jobs_does_not_miss_an_engine_that_was_never_there() {
    let engine = MoodyEngine::absent();
    let mut pool = Pool::start_explained();
    let _worker = worker(&pool, &engine, OFTEN, true);
    assert_eq!(pool.next().await, Event::Asked);
    pool.give_endless_job();
    assert_eq!(pool.next().await, Event::Asked);
}

#[tokio::test]
async fn an_engine_that_hangs_does_not_keep_the_worker_from_stopping() {
    let engine = MoodyEngine::start(Mood::Silent);
    let mut pool = Pool::start_explained();
    let worker = worker(&pool, &engine, OFTEN, false);
    reason(&mut pool).await;
    let took = tokio::task::spawn_blocking(|| worker.stop()).await.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}
