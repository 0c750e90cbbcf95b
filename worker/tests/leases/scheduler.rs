//! A scheduler that leases jobs, does as a test says, and tells it what workers do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use capnp::capability::FromClientHook as _;
use futures::future::LocalBoxFuture;
use ocluster_api::JobSpec;
use ocluster_api::cluster_capnp::{queue, registration};
use ocluster_api::extensions_capnp::{
    explained_queue, leased_job, leased_queue, registration_endpoint,
};
use ocluster_cli::testing::TestServer;
use ocluster_vat::SturdyRef;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::PATIENCE;

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It joins, with these jobs: number, attempt, bytes of log.
    Joined {
        identity: Vec<u8>,
        kinds: Vec<String>,
        held: Vec<(u64, u32, u64)>,
    },
    /// It joins as workers of OCluster do.
    Registered,
    /// It asks for a job.
    Asked,
}

/// What the scheduler says of jobs that a worker declares.
#[derive(Clone, Copy, Debug)]
pub enum Verdicts {
    Adopt,
    Refuse(&'static str),
    /// It has nothing to say.
    None,
}

/// How a job is given.
#[derive(Clone, Copy, Debug)]
pub enum Terms {
    Durable { id: u64, attempt: u32 },
    Attached { id: u64 },
}

/// What `LeasedJob.outcome` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub state: String,
    pub output: String,
    pub code: String,
    pub sentence: String,
    pub infrastructure: bool,
    pub log_length: u64,
}

type Order = Box<dyn FnOnce(Rc<Desk>) -> LocalBoxFuture<'static, ()> + Send>;

/// The scheduler, on a thread of its own.
pub struct Scheduler {
    server: TestServer,
    events: mpsc::UnboundedReceiver<Event>,
    orders: mpsc::UnboundedSender<Order>,
    gifts: mpsc::UnboundedSender<(JobSpec, Terms)>,
}

impl Scheduler {
    pub fn start() -> Self {
        Self::start_with(true)
    }

    /// One that knows the frozen protocol only.
    pub fn start_without_leases() -> Self {
        Self::start_with(false)
    }

    fn start_with(leases: bool) -> Self {
        let (noted, events) = mpsc::unbounded_channel();
        let (orders, mut taken) = mpsc::unbounded_channel::<Order>();
        let (gifts, queue) = mpsc::unbounded_channel();
        let server = TestServer::start(None, move || {
            let desk = Rc::new(Desk {
                noted,
                verdicts: Cell::new(Verdicts::Adopt),
                gifts: Mutex::new(queue),
                jobs: RefCell::default(),
                place: watch::Sender::new(0),
            });
            let obeying = desk.clone();
            tokio::task::spawn_local(async move {
                while let Some(order) = taken.recv().await {
                    tokio::task::spawn_local(order(obeying.clone()));
                }
            });
            if leases {
                capnp_rpc::new_client::<registration_endpoint::Client, _>(Door(desk)).client
            } else {
                capnp_rpc::new_client::<registration::Client, _>(Door(desk)).client
            }
        });
        Self {
            server,
            events,
            orders,
            gifts,
        }
    }

    pub fn cap(&self) -> SturdyRef {
        self.server.cap.clone()
    }

    /// What the worker does next.
    pub async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("the worker does nothing")
            .unwrap()
    }

    /// The jobs with which the worker joins, which is the next thing that it does.
    pub async fn joined(&mut self) -> Vec<(u64, u32, u64)> {
        match self.next().await {
            Event::Joined { held, .. } => held,
            other => panic!("it should have joined: {other:?}"),
        }
    }

    /// Sees the worker ask for a job.
    pub async fn asked(&mut self) {
        assert_eq!(self.next().await, Event::Asked);
    }

    /// Whether the worker has done nothing since it was last looked at.
    pub fn nothing_happened(&mut self) -> bool {
        self.events.try_recv().is_err()
    }

    /// Has the worker's question answered with this job.
    pub fn give(&self, spec: JobSpec, terms: Terms) {
        assert!(self.gifts.send((spec, terms)).is_ok());
    }

    /// Gives a durable job, of which this is the first attempt.
    pub fn give_durable(&self, spec: JobSpec, id: u64) {
        self.give(spec, Terms::Durable { id, attempt: 1 });
    }

    /// What it says from now on of jobs that a worker declares.
    pub async fn judge(&self, verdicts: Verdicts) {
        self.ask(move |desk| {
            desk.verdicts.set(verdicts);
            Box::pin(std::future::ready(()))
        })
        .await;
    }

    /// How the job ended, as soon as it has.
    pub async fn outcome(&self, id: u64) -> Result<Outcome, String> {
        self.ask(move |desk| {
            let request = desk.job(id).outcome_request();
            Box::pin(async move {
                let answer = request.send().promise.await.map_err(text)?;
                let outcome = answer.get().map_err(text)?.get_outcome().map_err(text)?;
                let word = |text: capnp::Result<capnp::text::Reader<'_>>| {
                    text.unwrap().to_string().unwrap()
                };
                Ok(Outcome {
                    state: word(outcome.get_state()),
                    output: word(outcome.get_output()),
                    code: word(outcome.get_cause_code()),
                    sentence: word(outcome.get_cause_sentence()),
                    infrastructure: outcome.get_infrastructure(),
                    log_length: outcome.get_log_length(),
                })
            })
        })
        .await
    }

    /// What `Job.result` answers.
    pub async fn result(&self, id: u64) -> Result<String, String> {
        self.ask(move |desk| {
            let request = desk
                .job(id)
                .cast_to::<ocluster_api::cluster_capnp::job::Client>();
            let request = request.result_request();
            Box::pin(async move {
                let answer = request.send().promise.await.map_err(text)?;
                let output = answer.get().unwrap().get_output().unwrap();
                Ok(output.to_string().unwrap())
            })
        })
        .await
    }

    /// The job's log from this byte on: what there is.
    pub async fn log(&self, id: u64, start: u64) -> Result<String, String> {
        self.ask(move |desk| {
            let job: ocluster_api::cluster_capnp::job::Client = desk.job(id).cast_to();
            Box::pin(async move {
                let mut request = job.log_request();
                request.get().set_start(i64::try_from(start).unwrap());
                let answer = request.send().promise.await.map_err(text)?;
                let log = answer.get().unwrap().get_log().unwrap();
                Ok(String::from_utf8(log.to_vec()).unwrap())
            })
        })
        .await
    }

    /// The job's log from this byte on, until it ends with these words.
    pub async fn log_until(&self, id: u64, start: u64, last: &str) -> String {
        let mut log = String::new();
        while !log.ends_with(last) {
            let more = self.log(id, start + log.len() as u64).await.unwrap();
            assert!(!more.is_empty(), "the log ended: {log:?}");
            log.push_str(&more);
        }
        log
    }

    pub async fn settle(&self, id: u64) -> Result<(), String> {
        self.ask(move |desk| {
            let request = desk.job(id).settle_request();
            Box::pin(async move { request.send().promise.await.map(drop).map_err(text) })
        })
        .await
    }

    pub async fn cancel(&self, id: u64) -> Result<(), String> {
        self.ask(move |desk| {
            let job: ocluster_api::cluster_capnp::job::Client = desk.job(id).cast_to();
            let request = job.cancel_request();
            Box::pin(async move { request.send().promise.await.map(drop).map_err(text) })
        })
        .await
    }

    /// Lets go of the job.
    pub async fn release(&self, id: u64) {
        self.ask(move |desk| {
            desk.jobs.borrow_mut().remove(&id);
            Box::pin(std::future::ready(()))
        })
        .await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Rc<Desk>) -> LocalBoxFuture<'static, T> + Send + 'static,
    ) -> T {
        let (answered, answer) = oneshot::channel();
        let order: Order = Box::new(move |desk| {
            Box::pin(async move {
                let _ = answered.send(question(desk).await);
            })
        });
        assert!(self.orders.send(order).is_ok());
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("no answer")
            .unwrap()
    }
}

fn text(error: capnp::Error) -> String {
    error.to_string()
}

/// What the scheduler knows.
struct Desk {
    noted: mpsc::UnboundedSender<Event>,
    verdicts: Cell<Verdicts>,
    gifts: Mutex<mpsc::UnboundedReceiver<(JobSpec, Terms)>>,
    /// The last capability to each job.
    jobs: RefCell<BTreeMap<u64, leased_job::Client>>,
    /// Counts stays; requests of earlier ones get nothing.
    place: watch::Sender<u32>,
}

impl Desk {
    fn job(&self, id: u64) -> leased_job::Client {
        self.jobs.borrow().get(&id).cloned().expect("no such job")
    }

    fn note(&self, event: Event) {
        // A test that is over hears nothing.
        let _ = self.noted.send(event);
    }

    fn next_place(self: &Rc<Self>) -> Queue {
        self.place.send_modify(|place| *place += 1);
        let place = *self.place.borrow();
        Queue {
            desk: self.clone(),
            place,
        }
    }
}

struct Door(Rc<Desk>);

impl registration::Server for Door {
    async fn register(
        self: Rc<Self>,
        _: registration::RegisterParams,
        mut results: registration::RegisterResults,
    ) -> capnp::Result<()> {
        let queue: queue::Client = capnp_rpc::new_client(self.0.next_place());
        results.get().set_queue(queue);
        self.0.note(Event::Registered);
        Ok(())
    }
}

impl registration_endpoint::Server for Door {
    async fn join(
        self: Rc<Self>,
        params: registration_endpoint::JoinParams,
        mut results: registration_endpoint::JoinResults,
    ) -> capnp::Result<()> {
        let params = params.get()?;
        let kinds = params.get_facts()?.get_kinds()?;
        let kinds = kinds.iter().map(|kind| kind.unwrap().to_string().unwrap());
        let held = params.get_held()?;
        let mut declared = Vec::new();
        for job in held {
            declared.push((job.get_id(), job.get_attempt(), job.get_log_length()));
            self.0
                .jobs
                .borrow_mut()
                .insert(job.get_id(), job.get_job()?);
        }
        let mut results = results.get();
        let leased: leased_queue::Client = capnp_rpc::new_client(self.0.next_place());
        results.set_queue(leased);
        match self.0.verdicts.get() {
            Verdicts::None => {}
            told => {
                let mut verdicts = results.init_verdicts(held.len());
                for i in 0..held.len() {
                    let mut verdict = verdicts.reborrow().get(i);
                    match told {
                        Verdicts::Refuse(reason) => verdict.set_reason(reason),
                        _ => verdict.set_adopted(true),
                    }
                }
            }
        }
        self.0.note(Event::Joined {
            identity: params.get_identity()?.to_vec(),
            kinds: kinds.collect(),
            held: declared,
        });
        Ok(())
    }
}

struct Queue {
    desk: Rc<Desk>,
    place: u32,
}

impl Queue {
    async fn next(&self) -> (JobSpec, Terms) {
        self.desk.note(Event::Asked);
        let mut place = self.desk.place.subscribe();
        let given = async {
            let mut gifts = self.desk.gifts.lock().await;
            gifts.recv().await
        };
        tokio::select! {
            biased;
            _ = place.wait_for(|place| *place != self.place) => {}
            Some(given) = given => return given,
        }
        std::future::pending().await
    }
}

impl queue::Server for Queue {
    async fn pop(
        self: Rc<Self>,
        params: queue::PopParams,
        mut results: queue::PopResults,
    ) -> capnp::Result<()> {
        let (spec, terms) = self.next().await;
        let (Terms::Durable { id, .. } | Terms::Attached { id }) = terms;
        let job = params.get()?.get_job()?.cast_to();
        self.desk.jobs.borrow_mut().insert(id, job);
        spec.write(results.get().init_descr()).unwrap();
        Ok(())
    }

    async fn set_active(
        self: Rc<Self>,
        _: queue::SetActiveParams,
        _: queue::SetActiveResults,
    ) -> capnp::Result<()> {
        Ok(())
    }
}

impl explained_queue::Server for Queue {}

impl leased_queue::Server for Queue {
    async fn pop_leased(
        self: Rc<Self>,
        params: leased_queue::PopLeasedParams,
        mut results: leased_queue::PopLeasedResults,
    ) -> capnp::Result<()> {
        let (spec, terms) = self.next().await;
        let mut results = results.get();
        let id = match terms {
            Terms::Durable { id, attempt } => {
                results.set_durable(true);
                results.set_attempt(attempt);
                id
            }
            Terms::Attached { id } => id,
        };
        results.set_id(id);
        let job = params.get()?.get_job()?;
        self.desk.jobs.borrow_mut().insert(id, job);
        spec.write(results.init_descr()).unwrap();
        Ok(())
    }
}
