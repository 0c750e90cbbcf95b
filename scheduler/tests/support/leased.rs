//! A worker that keeps durable jobs through lost connections, and builds nothing: the test holds each job, writes its log, ends it,
//! and takes it to the next registration, or claims to.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::{leased_job, leased_queue, registration_endpoint};
use ocluster_vat::{Connection, ServiceId};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::kind_and_reason;
use super::worker::{Traits, what_of, worker_object};

/// How a worker joins.
pub(crate) struct Joining {
    pub(crate) name: String,
    pub(crate) capacity: u32,
    pub(crate) identity: Vec<u8>,
    /// What it says that it still has.
    pub(crate) held: Vec<Holding>,
}

impl Joining {
    /// With one slot, an identity that goes with the name, and no jobs.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            capacity: 1,
            identity: format!("the secret of the worker {name}").into_bytes(),
            held: Vec::new(),
        }
    }

    pub(crate) fn capacity(self, capacity: u32) -> Self {
        Self { capacity, ..self }
    }

    pub(crate) fn identity(self, identity: &[u8]) -> Self {
        let identity = identity.to_owned();
        Self { identity, ..self }
    }

    pub(crate) fn holding(mut self, holding: Holding) -> Self {
        self.held.push(holding);
        self
    }
}

/// A job that a worker declares.
#[derive(Clone)]
pub(crate) struct Holding {
    pub(crate) id: u64,
    pub(crate) attempt: u32,
    pub(crate) log_length: u64,
    pub(crate) build: Rc<LeasedBuild>,
}

/// What the scheduler says to a declared job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) adopted: bool,
    pub(crate) reason: String,
}

/// A worker in the pool, which asks for jobs while it has a slot free.
pub(crate) struct LeasedWorker {
    pub(crate) connection: Connection,
    pub(crate) queue: leased_queue::Client,
    given: mpsc::UnboundedReceiver<LeasedGiven>,
    asking: CancellationToken,
    asked: Rc<Cell<u32>>,
}

impl Drop for LeasedWorker {
    fn drop(&mut self) {
        self.asking.cancel();
    }
}

impl LeasedWorker {
    pub(crate) async fn join(
        connection: Connection,
        pool: &ServiceId,
        joining: Joining,
    ) -> Result<(Self, Vec<Verdict>), String> {
        let registration: registration_endpoint::Client = connection.bootstrap(pool);
        let mut request = registration.join_request();
        let mut params = request.get();
        params.set_name(&joining.name);
        params.set_capacity(i32::try_from(joining.capacity).unwrap());
        params.set_worker(worker_object(connection.clone(), Traits::default()));
        params.set_identity(&joining.identity);
        let mut facts = params.reborrow().init_facts();
        facts.set_version("1.2.3");
        facts.set_cpus(4);
        facts.init_kinds(1).set(0, "docker");
        let mut held = params.init_held(u32::try_from(joining.held.len()).unwrap());
        for (index, holding) in (0..).zip(&joining.held) {
            let mut one = held.reborrow().get(index);
            one.set_id(holding.id);
            one.set_attempt(holding.attempt);
            one.set_log_length(holding.log_length);
            one.set_job(holding.build.object());
        }
        let response = request.send().promise.await.map_err(kind_and_reason)?;
        let results = response.get().unwrap();
        let queue = results.get_queue().unwrap();
        let verdicts: Vec<Verdict> = results
            .get_verdicts()
            .unwrap()
            .iter()
            .map(|verdict| Verdict {
                adopted: verdict.get_adopted(),
                reason: verdict.get_reason().unwrap().to_string().unwrap(),
            })
            .collect();
        let (sender, given) = mpsc::unbounded_channel();
        let asking = CancellationToken::new();
        let still_running: Vec<_> = joining
            .held
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| verdict.adopted)
            .map(|(holding, _)| holding.build.clone())
            .collect();
        let asked = Rc::new(Cell::new(0));
        let ask = ask_for_jobs(
            queue.clone(),
            joining.name,
            joining.capacity,
            still_running,
            asked.clone(),
            sender,
        );
        let until = asking.clone();
        tokio::task::spawn_local(async move { until.run_until_cancelled(ask).await });
        let worker = Self {
            connection,
            queue,
            given,
            asking,
            asked,
        };
        Ok((worker, verdicts))
    }

    /// The next job this worker is given.
    pub(crate) async fn next(&mut self) -> LeasedGiven {
        self.given
            .recv()
            .await
            .expect("the worker gets no more jobs")
    }

    /// A job that was given already, if any.
    pub(crate) fn given_now(&mut self) -> Option<LeasedGiven> {
        self.given.try_recv().ok()
    }

    /// How many times it has asked for a job.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.get()
    }

    /// It asks for no more jobs than it has asked for.
    pub(crate) fn stop_asking(&self) {
        self.asking.cancel();
    }

    /// The connection breaks; what the worker has of its jobs stays with the test.
    pub(crate) async fn vanish(self) {
        self.connection.disconnect("Connection closed");
        self.connection.closed().await;
    }
}

/// Takes a slot until the build is over.
fn occupy(slots: &Arc<Semaphore>, build: Rc<LeasedBuild>) {
    let slot = slots.clone().try_acquire_owned();
    tokio::task::spawn_local(async move {
        build.over().await;
        drop(slot);
    });
}

/// Asks for one job at a time, whenever there is a slot free.
async fn ask_for_jobs(
    queue: leased_queue::Client,
    name: String,
    capacity: u32,
    still_running: Vec<Rc<LeasedBuild>>,
    asked: Rc<Cell<u32>>,
    given: mpsc::UnboundedSender<LeasedGiven>,
) {
    let slots = Arc::new(Semaphore::new(capacity as usize));
    for build in still_running {
        occupy(&slots, build);
    }
    loop {
        drop(slots.acquire().await.unwrap());
        asked.set(asked.get() + 1);
        let build = Rc::new(LeasedBuild::default());
        let mut request = queue.pop_leased_request();
        request.get().set_job(build.object());
        let response = match request.send().promise.await.map_err(kind_and_reason) {
            Ok(response) => response,
            // The scheduler is in trouble with one job, and has others.
            Err(error) if error.starts_with("Failed: The scheduler") => continue,
            Err(_) => return,
        };
        let results = response.get().unwrap();
        build.write(&format!("Building on {name}\n"));
        let job = LeasedGiven {
            what: what_of(results.get_descr().unwrap()),
            durable: results.get_durable(),
            id: results.get_id(),
            attempt: results.get_attempt(),
            build: build.clone(),
        };
        occupy(&slots, build);
        if given.send(job).is_err() {
            return;
        }
    }
}

/// A job in the hands of the test.
pub(crate) struct LeasedGiven {
    /// What is to be built.
    pub(crate) what: String,
    pub(crate) durable: bool,
    pub(crate) id: u64,
    pub(crate) attempt: u32,
    pub(crate) build: Rc<LeasedBuild>,
}

impl LeasedGiven {
    pub(crate) fn write(&self, text: &str) {
        self.build.write(text);
    }

    /// Ends the job well.
    pub(crate) fn succeed(&self, output: &str) {
        self.build.write("Job succeeded\n");
        self.build.end(Outcome {
            state: "passed",
            output: output.to_owned(),
            ..Outcome::default()
        });
    }

    /// Ends the job badly, by its own doing.
    pub(crate) fn fail(&self, line: &str) {
        self.build.write(line);
        self.build.end(Outcome {
            state: "failed",
            code: "build-failed",
            sentence: "the build failed",
            ..Outcome::default()
        });
    }

    /// Ends the job badly, by the worker's doing.
    pub(crate) fn break_down(&self, code: &'static str) {
        self.build.end(Outcome {
            state: "failed",
            code,
            sentence: "this machine is in trouble",
            infrastructure: true,
            ..Outcome::default()
        });
    }

    /// The truth about it, for the next registration.
    pub(crate) fn held(&self) -> Holding {
        Holding {
            id: self.id,
            attempt: self.attempt,
            log_length: self.build.log_length(),
            build: self.build.clone(),
        }
    }
}

/// How a build ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) state: &'static str,
    pub(crate) output: String,
    pub(crate) code: &'static str,
    pub(crate) sentence: &'static str,
    pub(crate) infrastructure: bool,
    /// What it says of its log's length, whatever is true.
    pub(crate) claims: Option<u64>,
}

/// What is known of a build: its log so far, and how it ended.
#[derive(Default)]
pub(crate) struct LeasedBuild {
    log: RefCell<Vec<u8>>,
    outcome: RefCell<Option<Outcome>>,
    changed: Notify,
    /// Somebody called `cancel`.
    pub(crate) cancelled: CancellationToken,
    /// The scheduler needs it no more.
    pub(crate) settled: CancellationToken,
    /// It does not stop when it is told to.
    pub(crate) stubborn: Cell<bool>,
    /// Where the scheduler began or went on to read the log.
    pub(crate) reads: RefCell<Vec<i64>>,
}

impl LeasedBuild {
    /// The build, to be served over a connection.
    pub(crate) fn object(self: &Rc<Self>) -> leased_job::Client {
        capnp_rpc::new_client_from_rc(self.clone())
    }

    pub(crate) fn write(&self, text: &str) {
        self.log.borrow_mut().extend_from_slice(text.as_bytes());
        self.changed.notify_waiters();
    }

    /// The log is complete and the outcome is known. Only the first end counts.
    pub(crate) fn end(&self, outcome: Outcome) {
        self.outcome.borrow_mut().get_or_insert(outcome);
        self.changed.notify_waiters();
    }

    pub(crate) fn log_length(&self) -> u64 {
        self.log.borrow().len() as u64
    }

    /// The log as it is now.
    pub(crate) fn log(&self) -> String {
        String::from_utf8(self.log.borrow().clone()).unwrap()
    }

    fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    async fn over(&self) {
        self.wait_for(|| self.is_over().then_some(())).await;
    }

    async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }
}

impl job::Server for LeasedBuild {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        let asked = params.get()?.get_start();
        self.reads.borrow_mut().push(asked);
        let start = usize::try_from(asked).unwrap();
        let end = self
            .wait_for(|| {
                let length = self.log.borrow().len();
                (length > start || self.is_over()).then_some(length.max(start))
            })
            .await;
        results
            .get()
            .set_log(self.log.borrow().get(start..end).unwrap_or_default());
        results.get().set_next(i64::try_from(end).unwrap());
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        let outcome = self.wait_for(|| self.outcome.borrow().clone()).await;
        if outcome.state != "passed" {
            return Err(capnp::Error::failed("Build failed".to_owned()));
        }
        results.get().set_output(&outcome.output);
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        self.cancelled.cancel();
        if !self.stubborn.get() && !self.is_over() {
            self.write("Job cancelled\n");
            self.end(Outcome {
                state: "cancelled",
                ..Outcome::default()
            });
        }
        Ok(())
    }
}

impl leased_job::Server for LeasedBuild {
    async fn outcome(
        self: Rc<Self>,
        _: leased_job::OutcomeParams,
        mut results: leased_job::OutcomeResults,
    ) -> capnp::Result<()> {
        let outcome = self.wait_for(|| self.outcome.borrow().clone()).await;
        let mut told = results.get().init_outcome();
        told.set_state(outcome.state);
        told.set_output(&outcome.output);
        told.set_cause_code(outcome.code);
        told.set_cause_sentence(outcome.sentence);
        told.set_infrastructure(outcome.infrastructure);
        told.set_log_length(outcome.claims.unwrap_or_else(|| self.log_length()));
        Ok(())
    }

    async fn settle(
        self: Rc<Self>,
        _: leased_job::SettleParams,
        _: leased_job::SettleResults,
    ) -> capnp::Result<()> {
        self.settled.cancel();
        Ok(())
    }
}
