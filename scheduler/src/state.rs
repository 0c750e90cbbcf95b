//! The shell around the scheduling core: feeds it events, performs its effects, and keeps the live things (jobs, workers, waiting
//! requests) that its numbers stand for.
//!
//! Effects may release capabilities, and released capabilities are events again. Those are queued and handled after the effects at
//! hand, so that the core sees one event after another and the effects of one event are never interleaved with another's.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ocluster_api::DescriptorError;
use ocluster_joblog::{LogStore, LogWriter};
use ocluster_scheduling::{
    ClientId, Cluster, Effect, Event, JobId, PoolName, PopId, Refusal, Timestamp, WorkerId,
    WorkerName,
};
use ocluster_store::{Change, JobIds, JobRecord, StoreError};
use ocluster_vat::{Connection, error as rpc_error};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::asked_pop::{AskedPop, PopAnswer};
use crate::clients::Clients;
use crate::clock::Clock;
use crate::config::{PoolLimits, Quota};
use crate::durable::{self, DurableJob, Table, WorkerJob};
use crate::job::{Job, Submitted};
use crate::jobs::Changes;
use crate::records::{self, Records};
use crate::space::{NoRoom, SpaceGuard};
use crate::worker_session::{Newcomer, WorkerSession};

/// All of the scheduler's state. Lives on the vat thread.
pub(crate) struct Scheduler {
    cluster: RefCell<Cluster>,
    /// Jobs that are queued or running.
    jobs: RefCell<HashMap<JobId, Entry>>,
    table: Table,
    changes: Changes,
    workers: RefCell<HashMap<WorkerId, Rc<WorkerSession>>>,
    pops: RefCell<HashMap<PopId, WaitingPop>>,
    clients: Clients,
    records: Records,
    job_ids: RefCell<JobIds>,
    logs: LogStore,
    clock: Box<dyn Clock>,
    next_worker: Cell<u64>,
    next_pop: Cell<u64>,
    /// Woken whenever a worker joins.
    joined: Notify,
    /// The tasks that follow running jobs.
    tasks: TaskTracker,
    /// Memory that the descriptions of queued jobs take, in bytes, and how much they may take.
    queued_bytes: Rc<Cell<usize>>,
    max_queued_bytes: usize,
    update_timeout: Duration,
    /// Fires when nothing is to be given out any more.
    stopping: CancellationToken,
    /// Why the last changes could not even be queued for the store.
    unwritten: RefCell<Option<StoreError>>,
    busy: Cell<bool>,
    wakes: RefCell<VecDeque<PopId>>,
    posted: RefCell<VecDeque<Event>>,
}

/// A job that is queued or running.
#[derive(Clone)]
pub(crate) enum Entry {
    /// It lives as long as its client wants it.
    Attached(Rc<Job>),
    /// It lives until it ends.
    Durable(Rc<DurableJob>),
}

struct WaitingPop {
    /// The capability that will stand for the job.
    job: WorkerJob,
    answer: oneshot::Sender<PopAnswer>,
}

/// Why a job was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// No such pool. The words are upstream's.
    #[error("Pool ID \"{pool}\" not one of {{{pools}}}")]
    UnknownPool { pool: String, pools: String },
    /// The description's message is broken.
    #[error(transparent)]
    Description(#[from] DescriptorError),
    /// No number could be had for the job.
    #[error("The scheduler cannot take new jobs: {0}")]
    Store(#[from] StoreError),
    /// Too many, or too large, jobs wait already.
    #[error(
        "The queued jobs take {held} bytes, which is as much as the scheduler may hold: try again later"
    )]
    Full { held: usize },
    /// The client has as much queued as it may have.
    #[error(
        "client \"{client}\" has {queued} jobs queued, and may have {quota} (--quota queued): wait until some have begun"
    )]
    QueuedQuota {
        client: ClientId,
        queued: u64,
        quota: u32,
    },
    /// The description is larger than the client's may be.
    #[error(
        "the job's description has {size} bytes, and {quota} are allowed (--quota description)"
    )]
    DescriptionQuota { size: usize, quota: u64 },
    /// The disk is nearly full.
    #[error(transparent)]
    NoSpace(#[from] NoRoom),
    /// More time is asked for than the pool gives.
    #[error(
        "a {what} time of {} is asked for, and the pool allows {} at most (--time-limit)",
        ocluster_cli::show_duration(*asked), ocluster_cli::show_duration(*max)
    )]
    LimitTooLong {
        what: &'static str,
        asked: Duration,
        max: Duration,
    },
    /// Another job was submitted under the same key.
    #[error("the key was used for another job, {id}: choose another key for this one")]
    KeyInUse { id: ocluster_store::JobId },
    /// The key is too long.
    #[error("the key has {length} bytes, and 256 are allowed")]
    KeyTooLong { length: usize },
    /// The description could not be made ready for the disk.
    #[error("{0}")]
    Unsealed(String),
    /// What is kept today is not there tomorrow.
    #[error("this scheduler keeps no jobs: it is run with a key of its own for each start")]
    NotOffered,
    /// The core said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a change that is to survive a restart was not made, or may not survive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The core said no; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was made, but may be forgotten at the next restart.
    #[error("The change is in force, but could not be written down: {0}")]
    Unwritten(#[from] StoreError),
}

impl Scheduler {
    pub(crate) fn new(
        cluster: Cluster,
        clients: Clients,
        records: Records,
        job_ids: JobIds,
        logs: LogStore,
        clock: Box<dyn Clock>,
        table: Table,
    ) -> Self {
        Self {
            cluster: RefCell::new(cluster),
            jobs: RefCell::default(),
            table,
            changes: Changes::new(clock.now_ms()),
            workers: RefCell::default(),
            pops: RefCell::default(),
            clients,
            records,
            job_ids: RefCell::new(job_ids),
            logs,
            clock,
            next_worker: Cell::new(0),
            next_pop: Cell::new(0),
            joined: Notify::new(),
            tasks: TaskTracker::new(),
            queued_bytes: Rc::default(),
            max_queued_bytes: usize::MAX,
            update_timeout: Duration::from_secs(600),
            stopping: CancellationToken::new(),
            unwritten: RefCell::default(),
            busy: Cell::new(false),
            wakes: RefCell::default(),
            posted: RefCell::default(),
        }
    }

    /// With a limit for the memory that descriptions of queued jobs take, in bytes.
    pub(crate) fn with_max_queued_bytes(self, max_queued_bytes: usize) -> Self {
        Self {
            max_queued_bytes,
            ..self
        }
    }

    /// With another limit for workers that are updated to come back.
    pub(crate) fn with_update_timeout(self, update_timeout: Duration) -> Self {
        Self {
            update_timeout,
            ..self
        }
    }

    /// How long a worker that is updated may take to come back.
    pub(crate) fn update_timeout(&self) -> Duration {
        self.update_timeout
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    pub(crate) fn logs(&self) -> &LogStore {
        &self.logs
    }

    /// Begins the log of a client's job, which may grow as long as its client's may.
    ///
    /// # Errors
    /// If there is one already.
    pub(crate) fn create_log(
        &self,
        id: JobId,
        client: &ClientId,
    ) -> Result<LogWriter, ocluster_joblog::WriteError> {
        self.logs.create_within(id.0, self.quota(client).log)
    }

    /// Where the tasks that follow running jobs are started.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// From now on nothing is given out, and what ends does so because the scheduler stops.
    pub(crate) fn begin_stopping(&self) {
        self.stopping.cancel();
        self.tasks.close();
    }

    /// Whether the scheduler is about to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits until the scheduler is about to end.
    pub(crate) async fn stops(&self) {
        self.stopping.cancelled().await;
    }

    /// What is known of all durable jobs.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// What has changed of jobs.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Something about a job is not as it was.
    pub(crate) fn job_changed(&self, id: JobId, client: &ClientId) {
        self.changes.note(id, client);
    }

    /// Queues the record of an attached job to be written.
    pub(crate) fn write_job(&self, record: JobRecord) {
        let client = ClientId::from(record.client.as_str());
        self.changes.note(JobId(record.id.get()), &client);
        self.records.write_job(record);
    }

    /// A job that is queued or running.
    pub(crate) fn entry(&self, id: JobId) -> Option<Entry> {
        self.jobs.borrow().get(&id).cloned()
    }

    /// Takes note of a job that is about to be queued.
    pub(crate) fn add_entry(&self, id: JobId, entry: Entry) {
        self.jobs.borrow_mut().insert(id, entry);
    }

    /// The job is over.
    pub(crate) fn remove_entry(&self, id: JobId) {
        let entry = self.jobs.borrow_mut().remove(&id);
        // Dropped only now: it may call back.
        drop(entry);
    }

    /// The jobs that live as long as their clients, and are on this worker.
    pub(crate) fn attached_on(&self, worker: WorkerId) -> Vec<Rc<Job>> {
        let jobs = self.jobs.borrow();
        let attached = jobs.values().filter_map(|entry| match entry {
            Entry::Attached(job) => Some(job),
            Entry::Durable(_) => None,
        });
        let there = attached.filter(|job| {
            let run = job.run().ok().flatten();
            run.is_some_and(|run| run.worker_id() == worker)
        });
        there.cloned().collect()
    }

    /// The jobs that live as long as their clients, by the worker that has them; in no order. Walks all jobs once.
    pub(crate) fn attached_by_worker(&self) -> HashMap<WorkerId, Vec<JobId>> {
        let mut by_worker: HashMap<WorkerId, Vec<JobId>> = HashMap::new();
        for entry in self.jobs.borrow().values() {
            if let Entry::Attached(job) = entry
                && let Ok(Some(run)) = job.run()
            {
                by_worker.entry(run.worker_id()).or_default().push(job.id);
            }
        }
        by_worker
    }

    /// A number for a new job.
    ///
    /// # Errors
    /// If none can be had.
    pub(crate) fn next_job_id(&self) -> Result<ocluster_store::JobId, StoreError> {
        self.job_ids.borrow_mut().next_id()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at the core. `look` must not call back into the scheduler.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        look(&self.cluster.borrow())
    }

    /// Hands an event to the core and performs what follows from it.
    ///
    /// # Errors
    /// The core's refusal; nothing changed then.
    pub(crate) fn handle(self: &Rc<Self>, event: Event) -> Result<(), Refusal> {
        let nested = self.busy.replace(true);
        let outcome = self.step(event);
        if !nested {
            self.settle();
            self.busy.set(false);
        }
        outcome
    }

    /// Hands an event to the core, now or right after the event at hand. For those who cannot do anything about a refusal: things
    /// that are being dropped.
    pub(crate) fn post(self: &Rc<Self>, event: Event) {
        self.posted.borrow_mut().push_back(event);
        if !self.busy.replace(true) {
            self.settle();
            self.busy.set(false);
        }
    }

    fn step(self: &Rc<Self>, event: Event) -> Result<(), Refusal> {
        let now = self.clock.now();
        let effects = self.cluster.borrow_mut().handle(now, event);
        let mut changes = Vec::new();
        for effect in effects.list {
            self.perform(effect, &mut changes);
        }
        if let Err(error) = self.records.write(changes) {
            self.unwritten.replace(Some(error));
        }
        effects.outcome
    }

    /// As [`Scheduler::handle`], for a change that is to survive a restart: waits until it is on disk.
    ///
    /// The change itself is made when this is first polled, and stays made if the wait is given up.
    ///
    /// # Errors
    /// The core's refusal, or that the change is made but may be forgotten at the next restart.
    pub(crate) async fn handle_durably(self: &Rc<Self>, event: Event) -> Result<(), ChangeError> {
        self.unwritten.take();
        self.handle(event)?;
        match self.unwritten.take() {
            Some(error) => Err(error.into()),
            None => Ok(self.records.flushed().await?),
        }
    }

    /// Runs posted events and woken requests until there are none. What has ended comes first, so that nothing is given to it.
    fn settle(self: &Rc<Self>) {
        loop {
            // Taken out in statements of their own, so that nothing is borrowed during the step.
            let posted = self.posted.borrow_mut().pop_front();
            let event = match posted {
                Some(event) => event,
                None => match self.wakes.borrow_mut().pop_front() {
                    Some(pop) => Event::PopResumed { pop },
                    None => return,
                },
            };
            // A refusal means that what it was about is gone already.
            let _ = self.step(event);
        }
    }

    fn perform(self: &Rc<Self>, effect: Effect, changes: &mut Vec<Change>) {
        match effect {
            Effect::Wake { pop } => self.wakes.borrow_mut().push_back(pop),
            Effect::Give { pop, job, worker } => self.give(pop, job, worker),
            Effect::EndPop { pop } => {
                if let Some(waiting) = self.take_pop(pop) {
                    // The caller may be gone; then there is nobody to tell.
                    let _ = waiting
                        .answer
                        .send(Err(rpc_error::failed("Worker disconnected")));
                }
            }
            Effect::Persist(record) => changes.push(records::change_of(record)),
            Effect::JobCancelled { job } => match self.entry(job) {
                Some(Entry::Attached(attached)) => {
                    self.remove_entry(job);
                    if let Some(at) = attached.queued_until(self) {
                        self.table.deadlines.remove(at, job);
                    }
                    attached.broken_in_queue(self);
                }
                Some(Entry::Durable(durable)) => self.durable_cancelled(durable),
                None => {}
            },
            Effect::RunningChanged {
                worker, running, ..
            } => {
                let session = self.workers.borrow().get(&worker).cloned();
                if let Some(session) = session {
                    session.set_running(running);
                    if running == 0 && session.left.is_cancelled() {
                        self.workers.borrow_mut().remove(&worker);
                    }
                }
            }
            Effect::Queued { job, fair_start } => {
                if let Some(job) = self.durable(job) {
                    job.fair_start.set(fair_start);
                }
            }
            Effect::Log(fact) => info!("{fact}"),
        }
    }

    fn give(self: &Rc<Self>, pop: PopId, id: JobId, worker: WorkerId) {
        let session = self.workers.borrow().get(&worker).cloned();
        let entry = self.entry(id);
        let waiting = self.take_pop(pop);
        match (entry, waiting, session) {
            (Some(Entry::Attached(job)), Some(waiting), Some(session)) if !self.is_stopping() => {
                if let Some(at) = job.queued_until(self) {
                    self.table.deadlines.remove(at, id);
                }
                match job.start(self, session, waiting.job.as_job()) {
                    // If the caller goes away before it looks, the drop of its request says so.
                    Some(given) => {
                        if let Err(Ok(given)) = waiting.answer.send(Ok(given)) {
                            given.lost.cancel();
                        }
                    }
                    None => self.job_finished(id),
                }
            }
            (Some(Entry::Durable(job)), Some(waiting), Some(session)) if !self.is_stopping() => {
                durable::give(self, job, session, waiting.job, (pop, waiting.answer));
            }
            (entry, ..) => {
                // The worker left in this very moment, or nothing is given out any more.
                match entry {
                    Some(Entry::Attached(job)) => {
                        job.set_cancel_reason("Worker disconnected");
                        job.broken_in_queue(self);
                        self.job_finished(id);
                    }
                    Some(Entry::Durable(job)) => {
                        self.post(Event::Finished { job: id });
                        self.post(job.requeued());
                    }
                    None => self.job_finished(id),
                }
            }
        }
    }

    /// A job that a worker had taken is over.
    pub(crate) fn job_finished(self: &Rc<Self>, id: JobId) {
        self.remove_entry(id);
        self.post(Event::Finished { job: id });
    }

    /// Accepts a job and queues it.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub(crate) fn submit(
        self: &Rc<Self>,
        submitted: &Submitted<'_>,
    ) -> Result<Rc<Job>, SubmitError> {
        self.check_pool(&submitted.pool)?;
        self.check_room(&submitted.client, 0)?;
        let id = JobId(self.next_job_id()?.get());
        let job = Job::new(id, submitted, self.now_ms(), &self.queued_bytes)?;
        self.check_description(&submitted.client, job.description_size())?;
        self.add_entry(id, Entry::Attached(job.clone()));
        // Before the event, which may lead to the next state at once.
        self.write_job(job.record_of_submission());
        let queued = self.handle(Event::Submitted {
            pool: submitted.pool.clone(),
            client: submitted.client.clone(),
            job: id,
            hint: job.hint().clone(),
            urgent: submitted.urgent,
        });
        if let Err(refusal) = queued {
            self.remove_entry(id);
            // Unless it cannot be written, when the record was not either.
            let _ = self.records.write(vec![Change::JobDropped {
                id: job.record_of_submission().id,
            }]);
            return Err(refusal.into());
        }
        if let Some(at) = job.queued_until(self)
            && matches!(job.run(), Ok(None))
        {
            self.table.deadlines.add(at, id);
        }
        Ok(job)
    }

    /// Whether there is room for one more job of this client, with a description of that many bytes.
    ///
    /// # Errors
    /// What there is too much of.
    pub(crate) fn check_room(&self, client: &ClientId, size: usize) -> Result<(), SubmitError> {
        if let Err(error) = &*self.records.store().health().borrow() {
            return Err(error.clone().into());
        }
        if self.queued_bytes.get() >= self.max_queued_bytes {
            return Err(SubmitError::Full {
                held: self.queued_bytes.get(),
            });
        }
        if let Some(no_room) = self.table.space.as_ref().and_then(SpaceGuard::refusal) {
            return Err(no_room.into());
        }
        if let Some(quota) = self.quota(client).queued {
            let queued = self.look(|cluster| cluster.queued_by(client));
            if queued >= u64::from(quota) {
                return Err(SubmitError::QueuedQuota {
                    client: client.clone(),
                    queued,
                    quota,
                });
            }
        }
        self.check_description(client, size)
    }

    fn check_description(&self, client: &ClientId, size: usize) -> Result<(), SubmitError> {
        match self.quota(client).description {
            Some(quota) if size as u64 > quota => {
                Err(SubmitError::DescriptionQuota { size, quota })
            }
            _ => Ok(()),
        }
    }

    /// How long jobs of the pool may take.
    pub(crate) fn pool_limits(&self, pool: &PoolName) -> &PoolLimits {
        let policy = &self.table.policy;
        policy
            .pool_limits
            .get(pool.as_str())
            .unwrap_or(&policy.limits)
    }

    /// What the client may use.
    pub(crate) fn quota(&self, client: &ClientId) -> Quota {
        let policy = &self.table.policy;
        let own = policy.client_quotas.get(client.as_str());
        *own.unwrap_or(&policy.quota)
    }

    pub(crate) fn check_pool(&self, pool: &PoolName) -> Result<(), SubmitError> {
        self.look(|cluster| {
            if cluster.pools().any(|known| known == pool) {
                return Ok(());
            }
            let pools: Vec<&str> = cluster.pools().map(PoolName::as_str).collect();
            Err(SubmitError::UnknownPool {
                pool: pool.as_str().to_owned(),
                pools: pools.join(", "),
            })
        })
    }

    /// A worker joins; the caller makes it active.
    ///
    /// # Errors
    /// The core's refusal, above all [`Refusal::NameTaken`].
    pub(crate) fn register(
        self: &Rc<Self>,
        pool: &PoolName,
        newcomer: Newcomer,
        connection: Connection,
    ) -> Result<Rc<WorkerSession>, Refusal> {
        let (name, capacity) = (newcomer.name.clone(), newcomer.capacity);
        let id = WorkerId(self.next_worker.replace(self.next_worker.get() + 1));
        let session = Rc::new(WorkerSession::new(id, pool.clone(), newcomer, connection));
        self.workers.borrow_mut().insert(id, session.clone());
        let registered = self.handle(Event::Registered {
            pool: pool.clone(),
            worker: id,
            name,
            capacity,
        });
        if let Err(refusal) = registered {
            self.workers.borrow_mut().remove(&id);
            return Err(refusal);
        }
        Ok(session)
    }

    /// A worker's registration ends.
    pub(crate) fn worker_left(self: &Rc<Self>, session: &WorkerSession) {
        if session.left.is_cancelled() {
            return;
        }
        session.left.cancel();
        info!(pool = %session.pool, "Worker \"{}\" left", session.name);
        self.post(Event::Left { worker: session.id });
        // With jobs still to end, the session stays until the last one has.
        if session.is_idle() {
            self.workers.borrow_mut().remove(&session.id);
        }
    }

    /// The connected worker of this name.
    pub(crate) fn worker(&self, pool: &PoolName, name: &WorkerName) -> Option<Rc<WorkerSession>> {
        let id = self.look(|cluster| cluster.worker(pool, name))?;
        self.workers.borrow().get(&id).cloned()
    }

    /// Tells whoever waits for a worker to come back that one has joined.
    pub(crate) fn announce_join(&self) {
        self.joined.notify_waiters();
    }

    /// Waits until another registration than `old` bears the name.
    pub(crate) async fn replacement(
        &self,
        pool: &PoolName,
        name: &WorkerName,
        old: WorkerId,
    ) -> Rc<WorkerSession> {
        loop {
            // Registered before the look, so that a join in between is not missed.
            let joined = self.joined.notified();
            if let Some(session) = self.worker(pool, name)
                && session.id != old
            {
                return session;
            }
            joined.await;
        }
    }

    /// A worker asks for a job, and offers the capability that will stand for it.
    ///
    /// # Errors
    /// If its registration is over.
    pub(crate) fn ask(
        self: &Rc<Self>,
        worker: WorkerId,
        job: WorkerJob,
    ) -> Result<AskedPop, Refusal> {
        let pop = PopId(self.next_pop.replace(self.next_pop.get() + 1));
        let (answer, receiver) = oneshot::channel();
        self.pops
            .borrow_mut()
            .insert(pop, WaitingPop { job, answer });
        let asked = AskedPop::new(self.clone(), pop, receiver);
        self.handle(Event::Asked { worker, pop })?;
        Ok(asked)
    }

    /// What was to be given came to nothing before the worker heard of it: its request waits for something else.
    pub(crate) fn ask_again(
        self: &Rc<Self>,
        worker: WorkerId,
        pop: PopId,
        job: WorkerJob,
        answer: oneshot::Sender<PopAnswer>,
    ) {
        if answer.is_closed() {
            return;
        }
        self.pops
            .borrow_mut()
            .insert(pop, WaitingPop { job, answer });
        if self.handle(Event::Asked { worker, pop }).is_err()
            && let Some(waiting) = self.take_pop(pop)
        {
            // The caller may be gone; then there is nobody to tell.
            let _ = waiting
                .answer
                .send(Err(rpc_error::failed("Worker disconnected")));
        }
    }

    /// Nobody waits for this answer any more. Says whether anybody did.
    pub(crate) fn forget_pop(&self, pop: PopId) -> bool {
        self.take_pop(pop).is_some()
    }

    fn take_pop(&self, pop: PopId) -> Option<WaitingPop> {
        self.pops.borrow_mut().remove(&pop)
    }
}
