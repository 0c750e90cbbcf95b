//! A worker that builds nothing: the test holds each job it was given, writes its log and ends it. It behaves towards the scheduler
//! as OCluster's worker does: a job is over when it is cancelled, or when nobody holds it any more.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ocluster_api::cluster_capnp::{job, job_descr, queue, registration, worker};
use ocluster_vat::{Connection, ServiceId, guarded_client};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::kind_and_reason;

/// What a worker answers to `selfUpdate`.
#[derive(Clone, Default)]
pub(crate) enum OnUpdate {
    /// Fails with this text.
    Fail(String),
    /// Goes away, as a worker does that restarts.
    #[default]
    Leave,
}

/// What a worker answers when it is asked for metrics.
#[derive(Clone, Default)]
pub(crate) enum OnMetrics {
    /// Pages that say what they are; additional ones under the names "gpu" and "my disk".
    #[default]
    Answer,
    /// Its own page, of this content type.
    OfType(String),
    /// Fails with this text.
    Fail(String),
    /// Nothing. The counter has the number of questions that wait.
    Wait(Rc<Cell<usize>>),
}

/// How a worker differs from others.
#[derive(Clone, Default)]
pub(crate) struct Traits {
    pub(crate) on_update: OnUpdate,
    pub(crate) on_metrics: OnMetrics,
}

/// A worker that has joined the pool and asks for jobs while it has a slot free.
pub(crate) struct FakeWorker {
    pub(crate) connection: Connection,
    pub(crate) queue: queue::Client,
    given: mpsc::UnboundedReceiver<Given>,
    asking: CancellationToken,
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.asking.cancel();
    }
}

impl FakeWorker {
    /// Registers over an existing connection.
    pub(crate) async fn join(
        connection: Connection,
        pool: &ServiceId,
        name: &str,
        capacity: u32,
        traits: Traits,
    ) -> Result<Self, String> {
        let registration: registration::Client = connection.bootstrap(pool);
        let mut request = registration.register_request();
        request.get().set_name(name);
        request.get().set_capacity(i32::try_from(capacity).unwrap());
        request
            .get()
            .set_worker(worker_object(connection.clone(), traits));
        let response = request.send().promise.await.map_err(kind_and_reason)?;
        let queue = response.get().unwrap().get_queue().unwrap();
        let (sender, given) = mpsc::unbounded_channel();
        let asking = CancellationToken::new();
        let ask = ask_for_jobs(queue.clone(), name.to_owned(), capacity, sender);
        let until = asking.clone();
        tokio::task::spawn_local(async move { until.run_until_cancelled(ask).await });
        Ok(Self {
            connection,
            queue,
            given,
            asking,
        })
    }

    /// The next job this worker is given.
    pub(crate) async fn next(&mut self) -> Given {
        self.given
            .recv()
            .await
            .expect("the worker gets no more jobs")
    }

    /// A job that was given already, if any.
    pub(crate) fn given_now(&mut self) -> Option<Given> {
        self.given.try_recv().ok()
    }

    /// `Queue.setActive`.
    pub(crate) async fn set_active(&self, active: bool) {
        let mut request = self.queue.set_active_request();
        request.get().set_active(active);
        request.send().promise.await.unwrap();
    }

    /// The connection breaks, with all that went over it.
    pub(crate) async fn vanish(self) {
        self.connection.disconnect("Connection closed");
        self.connection.closed().await;
    }
}

/// Asks for one job at a time, whenever there is a slot free.
async fn ask_for_jobs(
    queue: queue::Client,
    name: String,
    capacity: u32,
    given: mpsc::UnboundedSender<Given>,
) {
    let slots = Arc::new(Semaphore::new(capacity as usize));
    loop {
        let slot = slots.clone().acquire_owned().await.unwrap();
        let build = Rc::new(Build::default());
        let mut request = queue.pop_request();
        request
            .get()
            .set_job(guarded_client(build.clone(), Released(build.clone())));
        let popped = request.send().promise.await;
        let Ok(response) = popped else { return };
        let descr = response.get().unwrap().get_descr().unwrap();
        build.write(&format!("Building on {name}\n"));
        let job = Given {
            what: what_of(descr),
            debug: format!("{descr:?}"),
            build: build.clone(),
        };
        if given.send(job).is_err() {
            return;
        }
        tokio::task::spawn_local(async move {
            build.over().await;
            drop(slot);
        });
    }
}

/// What a worker answers with to the scheduler's own calls.
pub(super) fn worker_object(connection: Connection, traits: Traits) -> worker::Client {
    capnp_rpc::new_client(WorkerServer { connection, traits })
}

/// The text that makes test jobs tell apart.
pub(super) fn what_of(descr: job_descr::Reader<'_>) -> String {
    use ocluster_api::cluster_capnp::{docker_build, job_descr::action};
    match descr.get_action().which().unwrap() {
        action::DockerBuild(docker) => match docker.unwrap().get_dockerfile().which().unwrap() {
            docker_build::dockerfile::Contents(text) => text.unwrap().to_string().unwrap(),
            docker_build::dockerfile::Path(path) => path.unwrap().to_string().unwrap(),
        },
        action::Obuilder(obuilder) => {
            let spec = obuilder.unwrap().get_spec().unwrap();
            spec.to_string().unwrap()
        }
        action::Custom(custom) => {
            let custom = custom.unwrap();
            let payload: ocluster_api::cluster_capnp::o_builder::Reader<'_> =
                custom.get_payload().get_as().unwrap();
            format!(
                "{}:{}",
                custom.get_kind().unwrap().to_str().unwrap(),
                payload.get_spec().unwrap().to_str().unwrap()
            )
        }
    }
}

/// A job in the hands of the test.
pub(crate) struct Given {
    /// What is to be built.
    pub(crate) what: String,
    /// The whole description, printed.
    pub(crate) debug: String,
    pub(crate) build: Rc<Build>,
}

impl Given {
    pub(crate) fn write(&self, text: &str) {
        self.build.write(text);
    }

    /// Ends the job well.
    pub(crate) fn succeed(&self, output: &str) {
        self.build.write("Job succeeded\n");
        self.build.end(Ok(output.to_owned()));
    }

    /// Ends the job badly.
    pub(crate) fn fail(&self, line: &str) {
        self.build.write(line);
        self.build.end(Err("Build failed".to_owned()));
    }
}

/// What is known of a build: its log so far, and how it ended.
#[derive(Default)]
pub(crate) struct Build {
    log: RefCell<Vec<u8>>,
    /// Where pieces of the log end, if the log is to be served in given pieces.
    pieces: RefCell<Vec<usize>>,
    outcome: OnceCell<Result<String, String>>,
    changed: Notify,
    /// Somebody called `cancel`.
    pub(crate) cancelled: CancellationToken,
    /// Nobody holds the job any more.
    pub(crate) released: CancellationToken,
    /// Ends of logs keep being promised and never told: for workers that misbehave.
    pub(crate) withhold_log_end: Cell<bool>,
    /// What it says as the next offset of its log, whatever is true.
    pub(crate) always_says_next: Cell<Option<i64>>,
    /// How often each method was called.
    pub(crate) result_calls: Cell<u32>,
    pub(crate) cancel_calls: Cell<u32>,
}

impl Build {
    pub(crate) fn write(&self, text: &str) {
        let mut log = self.log.borrow_mut();
        log.extend_from_slice(text.as_bytes());
        self.pieces.borrow_mut().push(log.len());
        drop(log);
        self.changed.notify_waiters();
    }

    /// The log is complete and the result is known. Only the first end counts.
    pub(crate) fn end(&self, outcome: Result<String, String>) {
        let _ = self.outcome.set(outcome);
        self.changed.notify_waiters();
    }

    fn stop(&self) {
        if self.outcome.get().is_none() {
            self.write("Job cancelled\n");
            self.end(Err("Build cancelled".to_owned()));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.outcome.get().is_some()
    }

    async fn over(&self) {
        self.wait_for(|| self.outcome.get().map(drop)).await;
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

impl job::Server for Build {
    /// Serves the log in the pieces in which it was written.
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        let start = usize::try_from(params.get()?.get_start()).unwrap();
        let end = self
            .wait_for(|| {
                let pieces = self.pieces.borrow();
                let more = pieces.iter().find(|end| **end > start).copied();
                let complete = self.is_over() && !self.withhold_log_end.get();
                more.or_else(|| complete.then_some(start))
            })
            .await;
        results.get().set_log(&self.log.borrow()[start..end]);
        let next = self.always_says_next.get();
        let next = next.unwrap_or_else(|| i64::try_from(end).unwrap());
        results.get().set_next(next);
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        self.result_calls.set(self.result_calls.get() + 1);
        match self.wait_for(|| self.outcome.get().cloned()).await {
            Ok(output) => {
                results.get().set_output(&output);
                Ok(())
            }
            Err(reason) => Err(capnp::Error::failed(reason)),
        }
    }

    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        self.cancel_calls.set(self.cancel_calls.get() + 1);
        self.cancelled.cancel();
        self.stop();
        Ok(())
    }
}

/// The references to a job that the scheduler holds.
struct Released(Rc<Build>);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.released.cancel();
        self.0.stop();
    }
}

struct WorkerServer {
    connection: Connection,
    traits: Traits,
}

impl worker::Server for WorkerServer {
    async fn metrics(
        self: Rc<Self>,
        params: worker::MetricsParams,
        mut results: worker::MetricsResults,
    ) -> capnp::Result<()> {
        let kind = match &self.traits.on_metrics {
            OnMetrics::Answer => "text/plain; version=0.0.4",
            OnMetrics::OfType(kind) => kind,
            OnMetrics::Fail(reason) => return Err(capnp::Error::failed(reason.clone())),
            OnMetrics::Wait(waiting) => {
                let _one_more = OneMore::of(waiting);
                std::future::pending().await
            }
        };
        results.get().set_content_type(kind);
        results.get().set_data(match params.get()?.get_source()? {
            worker::MetricsSource::Agent => "up 1\n",
            worker::MetricsSource::Host => "host 1\n",
        });
        Ok(())
    }

    async fn self_update(
        self: Rc<Self>,
        _: worker::SelfUpdateParams,
        _: worker::SelfUpdateResults,
    ) -> capnp::Result<()> {
        match &self.traits.on_update {
            OnUpdate::Fail(reason) => Err(capnp::Error::failed(reason.clone())),
            OnUpdate::Leave => {
                self.connection.disconnect("Switch turned off");
                std::future::pending().await
            }
        }
    }

    async fn additional_metric(
        self: Rc<Self>,
        params: worker::AdditionalMetricParams,
        mut results: worker::AdditionalMetricResults,
    ) -> capnp::Result<()> {
        let name = params.get()?.get_source()?.to_str()?;
        let mut answer = results.get().init_metric();
        if ["gpu", "my disk"].contains(&name) {
            let mut metric = answer.init_metric();
            metric.set_content_type("text/x-mine");
            metric.set_data(format!("about {name}"));
        } else {
            answer.set_not_reported(());
        }
        Ok(())
    }
}

/// One more, until it is dropped.
struct OneMore(Rc<Cell<usize>>);

impl OneMore {
    fn of(counter: &Rc<Cell<usize>>) -> Self {
        counter.set(counter.get() + 1);
        Self(counter.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
