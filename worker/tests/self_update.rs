//! `Worker.selfUpdate`, asked by whoever holds the worker's capability: not only by a scheduler, which waits for idle workers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ocluster_api::cluster_capnp::{job, queue, registration, worker};
use ocluster_api::{Action, JobSpec, TestStep, test_job};
use ocluster_cli::args;
use ocluster_cli::testing::TestServer;
use ocluster_vat::RpcError;
use ocluster_worker::Ended;
use ocluster_worker::args::Args;
use ocluster_worker::self_update::{ProgramFile, SelfUpdate};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the job takes: longer than the preparation of an update.
const JOB: Duration = Duration::from_millis(1500);

/// A scheduler that has one job, and asks for an update as soon as that runs.
struct Place {
    worker: RefCell<Option<worker::Client>>,
    told: mpsc::UnboundedSender<String>,
    given: RefCell<bool>,
}

struct Registration(Rc<Place>);
struct Queue(Rc<Place>);

impl registration::Server for Registration {
    async fn register(
        self: Rc<Self>,
        params: registration::RegisterParams,
        mut results: registration::RegisterResults,
    ) -> capnp::Result<()> {
        self.0.worker.replace(Some(params.get()?.get_worker()?));
        let queue = capnp_rpc::new_client(Queue(self.0.clone()));
        results.get().set_queue(queue);
        Ok(())
    }
}

impl queue::Server for Queue {
    async fn pop(
        self: Rc<Self>,
        params: queue::PopParams,
        mut results: queue::PopResults,
    ) -> capnp::Result<()> {
        if self.0.given.replace(true) {
            return std::future::pending().await;
        }
        let steps = [
            TestStep::Print("it runs".to_owned()),
            TestStep::SleepMs(JOB.as_millis().try_into().unwrap()),
        ];
        let spec = JobSpec {
            action: Action::Custom(test_job(&steps).unwrap()),
            cache_hint: String::new(),
            source: None,
            secrets: vec![],
        };
        spec.write(results.get().init_descr()).unwrap();
        let worker = self.0.worker.borrow().clone().unwrap();
        let job = params.get()?.get_job()?;
        tokio::task::spawn_local(ask_twice(worker, job, self.0.told.clone()));
        Ok(())
    }
}

async fn ask_twice(worker: worker::Client, job: job::Client, told: mpsc::UnboundedSender<String>) {
    let result = job.result_request().send().promise;
    // There is a log once it runs.
    let mut log = job.log_request();
    log.get().set_start(0);
    log.send().promise.await.unwrap();
    let first = worker.self_update_request().send().promise;
    let second = worker.self_update_request().send().promise;
    for (what, ended) in [
        ("second", second.await.map(drop)),
        ("job", result.await.map(drop)),
        ("first", first.await.map(drop)),
    ] {
        let ended = match ended.map_err(RpcError::from) {
            Ok(()) => "done".to_owned(),
            Err(RpcError::Disconnected(_)) => "disconnected".to_owned(),
            Err(other) => other.to_string(),
        };
        let _ = told.send(format!("{what}: {ended}"));
    }
}

#[test]
fn an_update_waits_for_running_jobs_and_is_one_at_a_time() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let server = TestServer::start(None, move || {
        let place = Rc::new(Place {
            worker: RefCell::default(),
            told,
            given: RefCell::default(),
        });
        capnp_rpc::new_client::<registration::Client, _>(Registration(place)).client
    });
    // Given a worker whose program can be run,
    let state = tempfile::tempdir().unwrap();
    let words = [
        "ocluster-worker".to_owned(),
        server.cap.to_uri(),
        "--name=w".to_owned(),
        "--allow-test-jobs".to_owned(),
        format!("--state-dir={}", state.path().display()),
    ];
    let args: Args = args::parse_from(words).unwrap();
    let mut config = args.into_config().unwrap();
    config.self_update = SelfUpdate::Program(ProgramFile::at("/bin/true"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = ocluster_worker::run(config, CancellationToken::new());
    let run = async { tokio::time::timeout(PATIENCE, run).await };
    // when it is asked while it runs a job, it ends as one that was updated,
    let ended = tokio::task::LocalSet::new().block_on(&runtime, run);
    assert_eq!(ended.expect("it did not end").unwrap(), Ended::ForUpdate);
    // after the job was done; the other call was told so.
    let mut next = || heard.blocking_recv().unwrap();
    assert_eq!(
        next(),
        "second: Failed: an update of this worker is under way already"
    );
    assert_eq!(next(), "job: done");
    assert_eq!(next(), "first: disconnected");
}
