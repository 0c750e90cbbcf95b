//! A scheduler with one worker, which it watches: a pool whose queue a test fills.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{job, queue, registration};
use ocluster_api::extensions_capnp::explained_queue;
use ocluster_api::{Action, JobSpec, TestStep, test_job};
use ocluster_cli::testing::TestServer;
use ocluster_vat::SturdyRef;
use ocluster_worker::Config;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::PATIENCE;

/// How long a job that has ended may take to say so.
const ENDED: Duration = Duration::from_secs(2);

/// What the worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It asks for a job.
    Asked,
    /// It says whether it is to be given jobs.
    Active(bool),
    /// It says that it is not, and why.
    Inactive(String),
}

/// What the test wants.
enum Order {
    /// To know that the worker answers.
    Ping(oneshot::Sender<()>),
    /// To have no job running any more.
    DropJobs,
    /// To know how many jobs run.
    CountJobs(oneshot::Sender<usize>),
}

/// The scheduler.
pub struct Pool {
    server: TestServer,
    events: mpsc::UnboundedReceiver<Event>,
    orders: mpsc::UnboundedSender<Order>,
    answers: mpsc::UnboundedSender<Answer>,
    registrations: Arc<AtomicU32>,
}

/// What a request for a job is answered with: a job, or an error.
type Answer = Result<JobSpec, &'static str>;

impl Pool {
    /// A scheduler that knows the frozen protocol only, as OCluster's.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// One that hears why a worker pauses.
    pub fn start_explained() -> Self {
        Self::start_with(true)
    }

    fn start_with(explained: bool) -> Self {
        let (noted, events) = mpsc::unbounded_channel();
        let (orders, taken) = mpsc::unbounded_channel();
        let (answers, queue) = mpsc::unbounded_channel();
        let registrations = Arc::new(AtomicU32::new(0));
        let counted = registrations.clone();
        let server = TestServer::start(None, move || {
            let place = Rc::new(Worker {
                noted,
                explained,
                registrations: counted,
                queue: Mutex::new(queue),
                running: RefCell::default(),
                cap: RefCell::default(),
            });
            tokio::task::spawn_local(obey(place.clone(), taken));
            capnp_rpc::new_client::<registration::Client, _>(Registration(place)).client
        });
        Self {
            server,
            events,
            orders,
            answers,
            registrations,
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

    /// Whether the worker has done nothing since it was last looked at.
    pub fn nothing_happened(&mut self) -> bool {
        self.events.try_recv().is_err()
    }

    /// Has the worker's question answered with a job that runs until [`Self::drop_jobs`].
    pub fn give_endless_job(&self) {
        self.give_endless_job_with_hint("");
    }

    /// The same, with a cache hint.
    pub fn give_endless_job_with_hint(&self, hint: &str) {
        let spec = JobSpec {
            action: Action::Custom(test_job(&[TestStep::Hang]).unwrap()),
            cache_hint: hint.to_owned(),
            source: None,
            secrets: vec![],
        };
        self.give(spec);
    }

    /// Has the worker's question answered with this job.
    pub fn give(&self, spec: JobSpec) {
        assert!(self.answers.send(Ok(spec)).is_ok());
    }

    /// Has the worker's question answered with an error.
    pub fn refuse(&self, reason: &'static str) {
        assert!(self.answers.send(Err(reason)).is_ok());
    }

    /// How often a worker has joined.
    pub fn registrations(&self) -> u32 {
        self.registrations.load(Ordering::Relaxed)
    }

    /// How many jobs run.
    pub async fn jobs(&self) -> usize {
        let (counted, count) = oneshot::channel();
        assert!(self.orders.send(Order::CountJobs(counted)).is_ok());
        count.await.unwrap()
    }

    /// Lets go of all jobs, which ends them.
    pub fn drop_jobs(&self) {
        assert!(self.orders.send(Order::DropJobs).is_ok());
    }

    /// Sees the worker answer, and soon.
    pub async fn ping(&self) {
        let (answered, answer) = oneshot::channel();
        assert!(self.orders.send(Order::Ping(answered)).is_ok());
        tokio::time::timeout(Duration::from_secs(3), answer)
            .await
            .expect("the worker does not answer")
            .unwrap();
    }
}

/// The worker, as the scheduler sees it.
struct Worker {
    noted: mpsc::UnboundedSender<Event>,
    explained: bool,
    registrations: Arc<AtomicU32>,
    queue: Mutex<mpsc::UnboundedReceiver<Answer>>,
    running: RefCell<Vec<job::Client>>,
    cap: RefCell<Option<capnp::capability::Client>>,
}

impl Worker {
    /// Jobs that have not ended. One that has answers at once.
    async fn count_running(&self) -> usize {
        let jobs = self.running.borrow().clone();
        let mut running = 0;
        for job in jobs {
            let result = job.result_request().send().promise;
            let ended = tokio::time::timeout(ENDED, result).await;
            running += usize::from(ended.is_err());
        }
        running
    }
}

async fn obey(worker: Rc<Worker>, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::DropJobs => worker.running.borrow_mut().clear(),
            Order::CountJobs(counted) => drop(counted.send(worker.count_running().await)),
            Order::Ping(answered) => {
                let cap = worker.cap.borrow().clone().unwrap();
                ocluster_vat::ping(&cap).await.unwrap();
                let _ = answered.send(());
            }
        }
    }
}

struct Registration(Rc<Worker>);

impl registration::Server for Registration {
    async fn register(
        self: Rc<Self>,
        params: registration::RegisterParams,
        mut results: registration::RegisterResults,
    ) -> capnp::Result<()> {
        let cap = params.get()?.get_worker()?.cast_to();
        self.0.cap.replace(Some(cap));
        self.0.registrations.fetch_add(1, Ordering::Relaxed);
        let queue = Queue(self.0.clone());
        let queue: queue::Client = if self.0.explained {
            capnp_rpc::new_client::<explained_queue::Client, _>(queue).cast_to()
        } else {
            capnp_rpc::new_client(queue)
        };
        results.get().set_queue(queue);
        Ok(())
    }
}

struct Queue(Rc<Worker>);

impl queue::Server for Queue {
    async fn pop(
        self: Rc<Self>,
        params: queue::PopParams,
        mut results: queue::PopResults,
    ) -> capnp::Result<()> {
        self.0.noted.send(Event::Asked).unwrap();
        let spec = match self.0.queue.lock().await.recv().await {
            Some(Ok(spec)) => spec,
            Some(Err(reason)) => return Err(ocluster_vat::error::failed(reason)),
            None => return std::future::pending().await,
        };
        self.0.running.borrow_mut().push(params.get()?.get_job()?);
        spec.write(results.get().init_descr()).unwrap();
        Ok(())
    }

    async fn set_active(
        self: Rc<Self>,
        params: queue::SetActiveParams,
        _: queue::SetActiveResults,
    ) -> capnp::Result<()> {
        let active = params.get()?.get_active();
        self.0.noted.send(Event::Active(active)).unwrap();
        Ok(())
    }
}

impl explained_queue::Server for Queue {
    async fn set_inactive(
        self: Rc<Self>,
        params: explained_queue::SetInactiveParams,
        _: explained_queue::SetInactiveResults,
    ) -> capnp::Result<()> {
        let reason = params.get()?.get_reason()?.to_string()?;
        self.0.noted.send(Event::Inactive(reason)).unwrap();
        Ok(())
    }
}

/// A worker on a thread of its own, stopped when dropped.
pub struct RunningWorker {
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl RunningWorker {
    pub fn start(config: impl FnOnce(&Path) -> Config + Send + 'static) -> Self {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let state = tempfile::TempDir::new().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let run = ocluster_worker::run(config(state.path()), stop);
            tokio::task::LocalSet::new()
                .block_on(&runtime, run)
                .unwrap();
        });
        Self {
            shutdown,
            thread: Some(thread),
        }
    }

    /// Tells it to stop, and says how long that took.
    pub fn stop(mut self) -> Duration {
        let start = Instant::now();
        self.shutdown.cancel();
        self.thread.take().unwrap().join().unwrap();
        start.elapsed()
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
