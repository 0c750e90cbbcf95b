//! A scheduler that plays one scene per pool: whoever submits to a pool gets the job of that name.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and each test file uses a part of this"
)]

pub(crate) mod durable;
pub(crate) mod process;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ocluster_api::JobSpec;
use ocluster_api::cluster_capnp::{job, submission, ticket};
use ocluster_cli::testing::TestServer;
use ocluster_vat::SecretKey;

/// What happened at the scheduler, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// A job came: the pool, whether it is urgent, and its description.
    Submitted(String, bool, Box<JobSpec>),
    /// `Ticket.cancel` was called.
    Cancelled,
}

/// The scheduler.
pub(crate) struct Scheduler {
    pub(crate) server: TestServer,
    events: Mutex<mpsc::Receiver<Event>>,
    pub(crate) seen: Arc<Mutex<Vec<Event>>>,
}

impl Scheduler {
    /// One without TLS, which is quicker.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    pub(crate) fn start_with(key: Option<SecretKey>) -> Self {
        let (sender, events) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = TestServer::start(key, {
            let seen = seen.clone();
            move || endpoint(Log { sender, seen }).client
        });
        Self {
            server,
            events: Mutex::new(events),
            seen,
        }
    }

    /// Waits for the next thing to happen.
    pub(crate) fn next_event(&self) -> Event {
        self.events
            .lock()
            .unwrap()
            .recv_timeout(Duration::from_secs(20))
            .expect("nothing more happens at the scheduler")
    }
}

fn endpoint(log: Log) -> submission::Client {
    capnp_rpc::new_client(Endpoint(log))
}

#[derive(Clone)]
struct Log {
    sender: mpsc::Sender<Event>,
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Log {
    fn add(&self, event: Event) {
        self.seen.lock().unwrap().push(event.clone());
        let _ = self.sender.send(event);
    }
}

struct Endpoint(Log);

impl submission::Server for Endpoint {
    async fn submit(
        self: Rc<Self>,
        params: submission::SubmitParams,
        mut results: submission::SubmitResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let pool = params.get_pool()?.to_string()?;
        let spec =
            JobSpec::read(params.get_descr()?).map_err(|e| capnp::Error::failed(e.to_string()))?;
        self.0.add(Event::Submitted(
            pool.clone(),
            params.get_urgent(),
            Box::new(spec),
        ));
        let refused = match pool.as_str() {
            "nope" => Some("Pool ID \"nope\" not one of {arm, linux}"),
            "revoked" => Some("Access has been revoked"),
            _ => None,
        };
        let ticket = match refused {
            Some(reason) => broken(reason),
            None => capnp_rpc::new_client(Ticket {
                pool,
                log: self.0.clone(),
            }),
        };
        results.get().set_ticket(ticket);
        Ok(())
    }
}

fn broken<C: capnp::capability::FromClientHook>(reason: &str) -> C {
    let broken = capnp_rpc::new_broken_cap(capnp::Error::failed(reason.to_owned()));
    capnp::capability::FromClientHook::new(broken.hook)
}

struct Ticket {
    pool: String,
    log: Log,
}

impl ticket::Server for Ticket {
    async fn job(
        self: Rc<Self>,
        _: ticket::JobParams,
        mut results: ticket::JobResults,
    ) -> Result<(), capnp::Error> {
        let job = Job {
            scene: self.pool.clone(),
            reads: Cell::new(0),
        };
        results.get().set_job(capnp_rpc::new_client(job));
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: ticket::CancelParams,
        _: ticket::CancelResults,
    ) -> Result<(), capnp::Error> {
        if self.pool == "stubborn" {
            std::future::pending::<()>().await;
        }
        self.log.add(Event::Cancelled);
        Ok(())
    }
}

struct Job {
    scene: String,
    reads: Cell<usize>,
}

/// What jobs print, in the pieces in which it is served.
const LINES: [&[u8]; 3] = [
    b"Building on worker-1\n",
    b"\x1b[32mstep\xff 1\x1b[0m",
    b"\nJob succeeded\n",
];

impl job::Server for Job {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> Result<(), capnp::Error> {
        let start = usize::try_from(params.get()?.get_start()).unwrap();
        let read = self.reads.replace(self.reads.get() + 1);
        let mut answer = results.get();
        let piece: &[u8] = match (self.scene.as_str(), read) {
            ("running" | "stubborn", 1) => return std::future::pending().await,
            ("running" | "stubborn", _) => b"started\n",
            ("endless", _) => &[b'.'; 4096],
            ("lost", 1) => return Err(capnp::Error::disconnected("Switch turned off".to_owned())),
            ("stuck", _) => {
                answer.set_log(b"again\n");
                answer.set_next(start as i64);
                return Ok(());
            }
            _ => LINES.get(read).copied().unwrap_or_default(),
        };
        answer.set_log(piece);
        answer.set_next((start + piece.len()) as i64);
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> Result<(), capnp::Error> {
        match self.scene.as_str() {
            "failing" => return Err(capnp::Error::failed("Build failed".to_owned())),
            "lost" => return Err(capnp::Error::disconnected("Switch turned off".to_owned())),
            "pushing" => results.get().set_output("team/app@sha256:\"12\"\nab"),
            _ => {}
        }
        Ok(())
    }
}
