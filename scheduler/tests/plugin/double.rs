//! A double of OCurrent's plugin for OCluster: the same calls in the same order, with the same waits between them.
//!
//! It knows capabilities as OCaml does: one is *settled* once it is known what it leads to, and has a *problem* if that is an error.
//! The scheduler must never be treated better here than the plugin treats it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::any_pointer;
use capnp::capability::Client as Cap;
use ocluster_api::cluster_capnp::{job, job_descr, submission, ticket};
use ocluster_vat::{Connection, DialOptions, RpcError, Stats, SturdyRef, Vat};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::client::follow;
use crate::support::kind_and_reason;

/// What the plugin says of a build that was cancelled before the scheduler knew of it.
pub(crate) const CANCELLED: &str = "Cancelled";

/// The plugin waits ten seconds between two attempts to connect, for ever. Nobody watches a test that long.
const RETRY: Duration = Duration::from_millis(50);

/// The stages of a build before a worker has it, each with its gauge.
const STAGES: [&str; 4] = ["connect", "rate-limit", "get-ticket", "get-worker"];

/// One connection object of the plugin, as pipelines share it.
#[derive(Clone)]
pub(crate) struct Plugin(Rc<Shared>);

struct Shared {
    cap: RefCell<SturdyRef>,
    /// Made when first needed; one for all builds.
    access: Mutex<Option<Access>>,
    max_pipeline: usize,
    limits: RefCell<BTreeMap<(String, bool), Arc<Semaphore>>>,
    gauges: [Cell<u32>; STAGES.len()],
    connections: Cell<u32>,
    submissions: Cell<u32>,
}

/// The submission capability, and the connection with which it breaks.
#[derive(Clone)]
struct Access {
    submission: submission::Client,
    connection: Connection,
}

/// What a pipeline wants built.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) pool: &'static str,
    pub(crate) urgent: bool,
    pub(crate) describe: Rc<dyn Fn(job_descr::Builder<'_>)>,
}

/// A build under way.
pub(crate) struct Build {
    ended: JoinHandle<Result<String, String>>,
    progress: Rc<Progress>,
}

#[derive(Default)]
struct Progress {
    log: RefCell<String>,
    cancel: CancellationToken,
    /// Which methods were used to cancel it.
    cancelled_by: RefCell<Vec<&'static str>>,
}

impl Plugin {
    /// With upstream's default limit of jobs that wait for a worker.
    pub(crate) fn new(cap: SturdyRef) -> Self {
        Self::with_max_pipeline(cap, 200)
    }

    /// With another limit for each pool and urgency.
    pub(crate) fn with_max_pipeline(cap: SturdyRef, max_pipeline: usize) -> Self {
        Self(Rc::new(Shared {
            cap: RefCell::new(cap),
            access: Mutex::new(None),
            max_pipeline,
            limits: RefCell::default(),
            gauges: Default::default(),
            connections: Cell::new(0),
            submissions: Cell::new(0),
        }))
    }

    /// The scheduler is somewhere else from now on.
    pub(crate) fn moved_to(&self, cap: SturdyRef) {
        self.0.cap.replace(cap);
    }

    /// Begins a build.
    pub(crate) fn build(&self, order: Order) -> Build {
        let progress = Rc::new(Progress::default());
        let build = self.0.clone().build(order, progress.clone());
        Build {
            ended: tokio::task::spawn_local(build),
            progress,
        }
    }

    /// How many builds are in each stage: connect, rate-limit, get-ticket, get-worker.
    pub(crate) fn gauges(&self) -> [u32; STAGES.len()] {
        self.0.gauges.each_ref().map(Cell::get)
    }

    /// How often it has connected.
    pub(crate) fn connections(&self) -> u32 {
        self.0.connections.get()
    }

    /// How often it has submitted.
    pub(crate) fn submissions(&self) -> u32 {
        self.0.submissions.get()
    }

    /// The connection breaks under it.
    pub(crate) async fn lose_connection(&self) {
        let access = self.0.access.lock().await.clone().unwrap();
        access.connection.disconnect("Connection closed");
    }
}

impl Build {
    /// The pipeline's user does not want it any more.
    pub(crate) fn cancel(&self) {
        self.progress.cancel.cancel();
    }

    /// What the job's page shows so far.
    pub(crate) fn log(&self) -> String {
        self.progress.log.borrow().clone()
    }

    /// Which methods were used to cancel it.
    pub(crate) fn cancelled_by(&self) -> Vec<&'static str> {
        self.progress.cancelled_by.borrow().clone()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Result<String, String> {
        (&mut self.ended).await.unwrap()
    }
}

impl Shared {
    async fn build(self: Rc<Self>, order: Order, progress: Rc<Progress>) -> Result<String, String> {
        loop {
            if let Some(job) = self.find_worker(&order, &progress).await? {
                return run(job, &progress).await;
            }
        }
    }

    /// Gets a worker for the build. Nothing if the connection was lost meanwhile: then it begins anew.
    async fn find_worker(
        &self,
        order: &Order,
        progress: &Progress,
    ) -> Result<Option<job::Client>, String> {
        let here = |stage| self.count(stage);
        let access = unless_cancelled(progress, async {
            let _here = here(0);
            self.access().await
        })
        .await?;
        let _slot = unless_cancelled(progress, async {
            let _here = here(1);
            self.limit(order).acquire_owned().await.unwrap()
        })
        .await?;

        let mut request = access.submission.submit_request();
        request.get().set_pool(order.pool);
        request.get().set_urgent(order.urgent);
        (order.describe)(request.get().init_descr());
        self.submissions.set(self.submissions.get() + 1);
        let submitted = request.send();
        let ticket: ticket::Client = submitted.pipeline.get_ticket();
        let job = ticket.job_request().send();
        let settled = async {
            {
                let _here = here(2);
                let response = submitted.promise.await?;
                settled(&response.get()?.get_ticket()?.client).await?;
            }
            progress.line("Waiting for worker…");
            let _here = here(3);
            let response = job.promise.await?;
            let job = response.get()?.get_job()?;
            settled(&job.client).await?;
            Ok(job)
        };
        let settled: capnp::Result<job::Client> =
            settled_while_cancelling(settled, &ticket, progress).await;
        drop(ticket);
        match settled {
            Ok(job) => Ok(Some(job)),
            // The submission capability breaks with its connection, and with nothing else.
            Err(_) if access.connection.is_closed() => Ok(None),
            Err(error) => Err(kind_and_reason(error)),
        }
    }

    /// The submission capability, once it is settled.
    async fn access(&self) -> Access {
        let mut shared = self.access.lock().await;
        loop {
            if let Some(access) = &*shared
                && !access.connection.is_closed()
            {
                return access.clone();
            }
            *shared = self.connect().await;
            if shared.is_none() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn connect(&self) -> Option<Access> {
        let cap = self.cap.borrow().clone();
        let vat = Vat::client_only(Stats::new());
        let options = DialOptions::default();
        let connected = vat.connect(&cap.address, &options, &mut |_| {}).await;
        let connection = connected.ok()?;
        let submission: submission::Client = connection.bootstrap(&cap.id);
        problem(&submission.client).await.is_none().then(|| {
            self.connections.set(self.connections.get() + 1);
            Access {
                submission,
                connection,
            }
        })
    }

    fn limit(&self, order: &Order) -> Arc<Semaphore> {
        let mut limits = self.limits.borrow_mut();
        let limit = limits
            .entry((order.pool.to_owned(), order.urgent))
            .or_insert_with(|| Arc::new(Semaphore::new(self.max_pipeline)));
        limit.clone()
    }

    fn count(&self, stage: usize) -> Counted<'_> {
        let gauge = &self.gauges[stage];
        gauge.set(gauge.get() + 1);
        Counted(gauge)
    }
}

/// A build in one of the stages.
struct Counted<'a>(&'a Cell<u32>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Progress {
    fn line(&self, text: &str) {
        self.log.borrow_mut().push_str(&format!("{text}\n"));
    }
}

/// Waits for something of which the scheduler knows nothing, so that a cancel is a matter of our own.
async fn unless_cancelled<T>(
    progress: &Progress,
    wait: impl Future<Output = T>,
) -> Result<T, String> {
    let waited = progress.cancel.run_until_cancelled(wait).await;
    waited.ok_or_else(|| CANCELLED.to_owned())
}

/// Waits for a queued job. A cancel goes to the ticket, and shows in what is waited for.
async fn settled_while_cancelling<T>(
    settled: impl Future<Output = T>,
    ticket: &ticket::Client,
    progress: &Progress,
) -> T {
    tokio::pin!(settled);
    tokio::select! {
        done = &mut settled => return done,
        () = progress.cancel.cancelled() => {}
    }
    progress.cancelled_by.borrow_mut().push("Ticket.cancel");
    let cancel = ticket.cancel_request().send().promise;
    let (done, _) = tokio::join!(settled, cancel);
    done
}

/// Follows a job that a worker has. Whatever happens to it now is final.
async fn run(job: job::Client, progress: &Progress) -> Result<String, String> {
    let result = job.result_request().send().promise;
    let log = follow(&job);
    let ended = async {
        let (log, problem) = log.await;
        progress.log.borrow_mut().push_str(&log);
        if let Some(problem) = problem {
            progress.line(&format!("Error tailing logs: {problem}"));
        }
        let response = result.await.map_err(kind_and_reason)?;
        let output = response.get().unwrap().get_output().unwrap();
        Ok(output.to_string().unwrap())
    };
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => return ended,
        () = progress.cancel.cancelled() => {}
    }
    progress.cancelled_by.borrow_mut().push("Job.cancel");
    let cancel = job.cancel_request().send().promise;
    let (ended, _) = tokio::join!(ended, cancel);
    ended
}

/// Waits until it is known what a capability leads to.
async fn settled(cap: &Cap) -> capnp::Result<()> {
    ocluster_vat::settled(cap).await?;
    match problem(cap).await {
        None => Ok(()),
        Some(problem) => Err(problem),
    }
}

/// What a capability is broken with, if it is. Anything that answers a question it does not understand is whole.
async fn problem(cap: &Cap) -> Option<capnp::Error> {
    const NOBODYS: u64 = 0xb8a1_7c35_90de_42f7;
    let request = cap.new_call::<any_pointer::Owned, any_pointer::Owned>(NOBODYS, 0, None);
    let error = request.send().promise.await.err()?;
    let is_whole = matches!(RpcError::from(error.clone()), RpcError::Unimplemented(_));
    (!is_whole).then_some(error)
}
