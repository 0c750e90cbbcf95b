//! What upstream's programs were recorded to say, said to our scheduler: its answers must mean what upstream's scheduler's did.
//!
//! One test per recorded session. The recorded program is played message by message; whoever else took part (a worker for a client,
//! a client for a worker) is played by the test. Where our scheduler differs on purpose, `player` says so and why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod capture;
mod content;
mod message;
mod player;
#[path = "../support/mod.rs"]
mod support;

use base64::Engine as _;
use ocluster_api::cluster_capnp::queue;
use ocluster_scheduler::config::PresetIds;
use ocluster_vat::{Connection, ServiceId};

use capture::{Capture, RecordedJob};
use player::Player;
use support::client::{self, Client};
use support::site::{Running, Site};
use support::story;
use support::worker::{FakeWorker, Given, Traits};

/// The pool of the recorded cluster.
const RECORDED_POOL: &str = "linux-x86_64";
/// The ids of the recorded services.
const ADMIN: &str = "N5oRKkXfSTRH7QYxO6fJuZIy-pHQ22eFHkvjHsl-VqA";
const REGISTRATION: &str = "qM1QbCXG11s2IblYB11LjCRMJFbJvPSPsKd3qSSixzQ";
const ALICE: &str = "ljEvF2Hm32vCvCN5CKY9HC3j0eE";

fn id(text: &str) -> ServiceId {
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    ServiceId::new(engine.decode(text).unwrap())
}

/// A cluster with the ids of the recorded one.
fn recorded_site(alice_exists: bool) -> Site {
    Site::with(|config| {
        config.pools = vec![(
            RECORDED_POOL.to_owned(),
            ocluster_scheduling::Policy::default(),
        )];
        config.default_clients = Vec::new();
        config.preset_ids = Some(PresetIds {
            admin: id(ADMIN),
            pools: vec![(RECORDED_POOL.to_owned(), id(REGISTRATION))],
            clients: alice_exists
                .then(|| ("alice".to_owned(), id(ALICE)))
                .into_iter()
                .collect(),
        });
    })
}

async fn connect(scheduler: &Running) -> Connection {
    scheduler.connect(&scheduler.cap("admin.cap")).await
}

/// The recorded worker, played by the test.
async fn worker(scheduler: &Running) -> FakeWorker {
    let connection = connect(scheduler).await;
    let worker = FakeWorker::join(connection, &id(REGISTRATION), "w1", 2, Traits::default())
        .await
        .unwrap();
    // Its requests for jobs travel in front of this call.
    worker.set_active(true).await;
    worker
}

/// Plays a session with the admin service.
fn replay_admin(name: &str, alice_exists: bool, with_worker: bool, answers: usize) {
    story(async {
        let site = recorded_site(alice_exists);
        let scheduler = site.start().await;
        let _worker = match with_worker {
            true => Some(worker(&scheduler).await),
            false => None,
        };
        let mut player = Player::connect(scheduler.socket()).await;
        player.play(&Capture::read(name)).await;
        assert_eq!(player.compared, answers);
    });
}

/// Plays a client's session, with a worker whose jobs go as they were recorded to go.
fn replay_client(name: &str, answers: usize) {
    story(async {
        let site = recorded_site(true);
        let scheduler = site.start().await;
        let mut worker = worker(&scheduler).await;
        let capture = Capture::read(name);
        let job = capture.submitted_job();
        tokio::task::spawn_local(async move {
            let given = worker.next().await;
            build(&given, &job);
            // The worker stays as long as the job is held.
            given.build.released.cancelled().await;
            drop(worker);
        });
        let mut player = Player::connect(scheduler.socket()).await;
        player.play(&capture).await;
        assert_eq!(player.compared, answers);
    });
}

fn build(given: &Given, recorded: &RecordedJob) {
    // The first line is there already.
    for piece in recorded
        .log
        .values()
        .skip(1)
        .filter(|piece| !piece.is_empty())
    {
        given.write(piece);
    }
    match recorded.result.clone() {
        Some(Ok(output)) => given.build.end(Ok(output)),
        Some(Err(error)) => {
            let reason = error.strip_prefix("Failed: ").unwrap();
            given.build.end(Err(reason.to_owned()));
        }
        None => {}
    }
}

#[test]
fn admin_add_client() {
    replay_admin("admin-add-client", false, false, 3);
}

#[test]
fn admin_add_client_again() {
    replay_admin("admin-add-client-again", true, false, 3);
}

#[test]
fn admin_pause_auto_create() {
    replay_admin("admin-pause-auto-create", false, false, 3);
}

#[test]
fn admin_pause_wait() {
    replay_admin("admin-pause-wait", false, true, 4);
}

#[test]
fn admin_set_rate() {
    replay_admin("admin-set-rate", true, false, 3);
}

#[test]
fn admin_show_pool() {
    replay_admin("admin-show-pool", false, true, 3);
}

#[test]
fn client_submit_docker() {
    replay_client("client-submit-docker", 7);
}

#[test]
fn client_submit_obuilder() {
    replay_client("client-submit-obuilder", 10);
}

#[test]
fn client_submit_obuilder_fails() {
    replay_client("client-submit-obuilder-fails", 9);
}

/// There is a worker in the recorded cluster, but the job never gets there.
#[test]
fn client_unknown_pool() {
    story(async {
        let site = recorded_site(true);
        let scheduler = site.start().await;
        let mut player = Player::connect(scheduler.socket()).await;
        player.play(&Capture::read("client-unknown-pool")).await;
        assert_eq!(player.compared, 5);
    });
}

/// The client's process is killed while its job runs, after which the job is cancelled.
#[test]
fn client_killed_mid_job() {
    story(async {
        let site = recorded_site(true);
        let scheduler = site.start().await;
        let mut worker = worker(&scheduler).await;
        let capture = Capture::read("client-killed-mid-job");
        let job = capture.submitted_job();
        let mut player = Player::connect(scheduler.socket()).await;
        let building = async {
            let given = worker.next().await;
            build(&given, &job);
            given
        };
        let (given, ()) = tokio::join!(building, player.play(&capture));
        assert_eq!(player.compared, 8);
        assert!(!given.build.cancelled.is_cancelled());
        drop(player);
        given.build.cancelled.cancelled().await;
    });
}

/// The client of this session is played by the test: it submits what the worker was recorded to be given, one job after the other,
/// and must read of each what the worker was recorded to say.
#[test]
fn worker_register_pop_jobs() {
    story(async {
        let site = recorded_site(true);
        let scheduler = site.start().await;
        let capture = Capture::read("worker-register-pop-jobs");
        let jobs = capture.given_jobs();
        assert_eq!(jobs.len(), 3);
        let connection = connect(&scheduler).await;
        let client = Client {
            submission: connection.bootstrap(&id(ALICE)),
            connection,
        };
        let mut player = Player::connect(scheduler.socket()).await;
        let playing = async {
            player.play(&capture).await;
            player
        };
        let (player, ()) = tokio::join!(playing, submit_all(&client, &jobs));
        assert_eq!(player.compared, 5);
    });
}

async fn submit_all(client: &Client, jobs: &[RecordedJob]) {
    for recorded in jobs {
        let popped = recorded.popped.as_ref().unwrap();
        let submitted = popped.results(|content| {
            let results: queue::pop_results::Reader<'_> = content.get_as().unwrap();
            client.submit_copy(RECORDED_POOL, results.get_descr().unwrap())
        });
        let result = client::result(&submitted.job);
        match &recorded.result {
            Some(expected) => {
                assert_eq!(
                    client::whole_log(&submitted.job).await,
                    recorded.whole_log()
                );
                assert_eq!(result.await, *expected);
            }
            // The capture ends with the first line of this job.
            None => {
                let (line, _) = client::read_at(&submitted.job, 0).await.unwrap();
                assert_eq!(line, recorded.whole_log());
            }
        }
    }
}
