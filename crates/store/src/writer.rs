//! The writer: one thread owns the store, groups what comes in, flushes once per group and acknowledges all of it.
//!
//! The caller's thread never waits for the disk: it queues changes, bounded by their size, and awaits acknowledgements
//! where it needs them. After a storage error nothing more is written: everybody who waits is told, everybody who
//! comes later is refused, and [`StoreHandle::health`] shows it. The writer must never acknowledge before the flush.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use crate::bell::Bell;
use crate::{Change, JobId, JobMatch, JobPage, JobRecord, Pace, Store, StoreError, group, task};

/// Bounds on what waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterConfig {
    /// Bytes of changes that may wait; more are refused with [`StoreError::Busy`]. 64 MiB by default.
    pub max_waiting_bytes: usize,
    /// From this many waiting bytes on, [`Pressure::High`] is reported. A quarter of the maximum by default.
    pub high_bytes: usize,
    /// The most changes written and flushed as one group. 4096 by default.
    pub max_group: usize,
    /// How long changes that nobody waits for may wait for others to be flushed with. 50 ms by default.
    pub linger: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            max_waiting_bytes: 64 << 20,
            high_bytes: 16 << 20,
            max_group: 4096,
            linger: Duration::from_millis(50),
        }
    }
}

/// How far the disk is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// It keeps up.
    Low,
    /// It falls behind: take less new work.
    High,
}

pub(crate) type Ack = oneshot::Sender<Result<(), StoreError>>;
type Query = Box<dyn FnOnce(&dyn Store) + Send>;

pub(crate) enum Message {
    Changes {
        changes: Vec<Change>,
        weight: usize,
        ack: Option<Ack>,
    },
    Query(Query),
    Peek(Query),
    Close,
}

/// Owns a store on a thread of its own. See the module's text.
#[derive(Debug)]
pub struct Writer {
    handle: StoreHandle,
    thread: Option<JoinHandle<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// The way to a store from any thread. Cheap to clone; dropping handles closes nothing.
#[derive(Clone)]
pub struct StoreHandle {
    shared: Arc<Shared>,
    way: Way,
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle")
            .field("waiting_bytes", &self.waiting_bytes())
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Way {
    /// To the writer's thread.
    Thread(mpsc::Sender<Message>),
    /// To a task in its place.
    Task(UnboundedSender<Message>),
    /// Straight to the store, on the caller's thread: for stores that never wait.
    Inline(Arc<Mutex<Box<dyn Store>>>),
}

pub(crate) struct Shared {
    pub(crate) config: WriterConfig,
    pub(crate) waiting: AtomicUsize,
    /// For those who cannot wait until the thread has gathered enough.
    pub(crate) bell: Bell,
    closed: AtomicBool,
    health: watch::Sender<Result<(), StoreError>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the system gives no thread.
    pub fn start(store: Box<dyn Store>, config: WriterConfig) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::new(config));
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || group::run(store.as_ref(), &receiver, &shared)
            })
            .map_err(|error| StoreError::io("start the store's thread", &error))?;
        Ok(Self {
            handle: StoreHandle {
                shared,
                way: Way::Thread(sender),
            },
            thread: Some(thread),
            task: None,
        })
    }

    /// No thread: every change is made before the call returns. For stores that never wait for a disk, in tests and
    /// simulations, where one seed must give one history.
    #[must_use]
    pub fn inline(store: Box<dyn Store>) -> Self {
        Self {
            handle: StoreHandle {
                shared: Arc::new(Shared::new(WriterConfig::default())),
                way: Way::Inline(Arc::new(Mutex::new(store))),
            },
            thread: None,
            task: None,
        }
    }

    /// A task of the current runtime instead of a thread, whose flushes take as long as `pace` says. What it has not flushed when the
    /// runtime is dropped is lost, as in a crash. For simulations.
    #[must_use]
    pub fn as_task(store: Box<dyn Store>, config: WriterConfig, pace: Pace) -> Self {
        let shared = Arc::new(Shared::new(config));
        let (sender, receiver) = unbounded_channel();
        let task = tokio::spawn(task::run(store, receiver, Arc::clone(&shared), pace));
        Self {
            handle: StoreHandle {
                shared,
                way: Way::Task(sender),
            },
            thread: None,
            task: Some(task),
        }
    }

    /// A handle to it.
    #[must_use]
    pub fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// Writes what waits, then closes the store. Handles that remain answer [`StoreError::Closed`].
    ///
    /// # Errors
    /// The storage error that stopped the writer, if one did.
    pub async fn close(mut self) -> Result<(), StoreError> {
        let thread = self.begin_close();
        if let Some(thread) = thread {
            // Joining waits for the disk, which is no business of a runtime's thread.
            let (done, wait) = oneshot::channel();
            let joiner = std::thread::Builder::new()
                .name("store-close".to_owned())
                .spawn(move || {
                    // A panic of the writer shows as its health, which is read below.
                    let _panicked = thread.join().is_err();
                    // Whoever closed may have stopped waiting.
                    let _unheard = done.send(());
                });
            joiner.map_err(|error| StoreError::io("wait for the store's thread", &error))?;
            // The sender is dropped only after the join.
            let _dropped = wait.await;
        }
        if let Some(task) = self.task.take() {
            // As with the thread.
            let _panicked = task.await.is_err();
        }
        self.handle.shared.health.borrow().clone()
    }

    fn begin_close(&mut self) -> Option<JoinHandle<()>> {
        self.handle.shared.closed.store(true, Ordering::SeqCst);
        // A writer that is already gone needs no telling.
        let _gone = self.handle.send(Message::Close);
        self.thread.take()
    }
}

/// Dropping a writer writes what waits, on the dropping thread's time.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.begin_close() {
            // Nothing can be done about its panic here, and its waiters saw `Closed`.
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn new(config: WriterConfig) -> Self {
        Self {
            config,
            waiting: AtomicUsize::new(0),
            bell: Bell::default(),
            closed: AtomicBool::new(false),
            health: watch::Sender::new(Ok(())),
        }
    }

    /// Keeps the first storage error for ever, and gives what later callers are told.
    pub(crate) fn stop(&self, error: &StoreError) {
        self.health.send_if_modified(|health| {
            let first = health.is_ok();
            if first {
                *health = Err(error.clone());
            }
            first
        });
    }

    pub(crate) fn refusal(&self) -> Result<(), StoreError> {
        self.health.borrow().as_ref().map_err(StoreError::stopped)?;
        Ok(())
    }
}

impl StoreHandle {
    /// Queues changes and returns at once; they are written in the order of the calls, together or not at all.
    ///
    /// Nobody is told when they are on disk. An error shows in [`health`](Self::health).
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much waits already, [`StoreError::Stopped`] after a storage error,
    /// [`StoreError::Closed`]. The changes were then not taken.
    pub fn submit(&self, changes: Vec<Change>) -> Result<Pressure, StoreError> {
        self.enqueue(changes, None)
    }

    /// Queues changes at once (before the future is first polled); the future ends when they are flushed.
    ///
    /// Dropping the future does not undo them.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and the storage error if the flush fails.
    pub fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let queued = self.commit_in_background(changes);
        async move { queued?.await.unwrap_or(Err(StoreError::Closed)) }
    }

    /// [`commit`](Self::commit) for callers that look for the acknowledgement later.
    pub(crate) fn commit_in_background(
        &self,
        changes: Vec<Change>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let (ack, done) = oneshot::channel();
        self.enqueue(changes, Some(ack))?;
        Ok(done)
    }

    /// Runs a question on the writer's thread, after everything queued before it was written.
    ///
    /// Nothing is written meanwhile, so a question should be short.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn query<T, F>(&self, question: F) -> Result<T, StoreError>
    where
        T: Send + Any,
        F: FnOnce(&dyn Store) -> T + Send + 'static,
    {
        self.ask(Message::Query, question).await
    }

    /// As [`query`](Self::query), but does not wait for what was queued before to be written, and so may not see it. Changes go on
    /// being grouped as if nobody had asked.
    async fn peek<T, F>(&self, question: F) -> Result<T, StoreError>
    where
        T: Send + Any,
        F: FnOnce(&dyn Store) -> T + Send + 'static,
    {
        self.ask(Message::Peek, question).await
    }

    async fn ask<T, F>(&self, kind: fn(Query) -> Message, question: F) -> Result<T, StoreError>
    where
        T: Send + Any,
        F: FnOnce(&dyn Store) -> T + Send + 'static,
    {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        match &self.way {
            Way::Inline(store) => Ok(question(lock(store).as_ref())),
            Way::Thread(_) | Way::Task(_) => {
                let (answer, wait) = oneshot::channel();
                let ask: Query = Box::new(move |store| {
                    // Whoever asked may have stopped waiting.
                    let _unheard = answer.send(question(store));
                });
                self.send(kind(ask))?;
                wait.await.map_err(|_| StoreError::Closed)
            }
        }
    }

    /// As [`query`](Self::query), for threads that may wait (never call it on a runtime's own thread), but does not wait for what
    /// was queued before to be written, and so may not see it.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn peek_blocking<T, F>(&self, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> T + Send + 'static,
    {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        match &self.way {
            Way::Inline(store) => Ok(question(lock(store).as_ref())),
            Way::Thread(_) | Way::Task(_) => {
                let (answer, wait) = mpsc::sync_channel(1);
                self.send(Message::Peek(Box::new(move |store| {
                    // Whoever asked waits for it.
                    let _heard = answer.send(question(store));
                })))?;
                wait.recv().map_err(|_| StoreError::Closed)
            }
        }
    }

    /// The record of a job, as [`Store::job`] gives it.
    ///
    /// # Errors
    /// As [`Store::job`], and [`StoreError::Closed`].
    pub async fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.query(move |store| store.job(id)).await?
    }

    /// Open jobs, oldest first, as [`Store::open_jobs`] gives them.
    ///
    /// # Errors
    /// As [`Store::open_jobs`], and [`StoreError::Closed`].
    pub async fn open_jobs(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.query(move |store| store.open_jobs(after, limit))
            .await?
    }

    /// The sealed description of a job, as [`Store::description`] gives it.
    ///
    /// # Errors
    /// As [`Store::description`], and [`StoreError::Closed`].
    pub async fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.query(move |store| store.description(id)).await?
    }

    /// The job of a client's key, as [`Store::job_by_key`] gives it, among those that were written when this was asked.
    ///
    /// # Errors
    /// As [`Store::job_by_key`], and [`StoreError::Closed`].
    pub async fn job_by_key(
        &self,
        client: String,
        key: String,
    ) -> Result<Option<JobRecord>, StoreError> {
        self.peek(move |store| store.job_by_key(&client, &key))
            .await?
    }

    /// Records newest first, as [`Store::jobs`] gives them.
    ///
    /// # Errors
    /// As [`Store::jobs`], and [`StoreError::Closed`].
    pub async fn jobs(
        &self,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobRecord>, StoreError> {
        self.query(move |store| store.jobs(before, limit)).await?
    }

    /// Records that match, as [`Store::jobs_matching`] gives them.
    ///
    /// # Errors
    /// As [`Store::jobs_matching`], and [`StoreError::Closed`].
    pub async fn jobs_matching(
        &self,
        filter: JobMatch,
        before: Option<JobId>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, StoreError> {
        self.query(move |store| store.jobs_matching(&filter, before, limit, scan))
            .await?
    }

    /// Drops old records, as [`Store::prune_jobs`] does.
    ///
    /// # Errors
    /// As [`Store::prune_jobs`], and [`StoreError::Closed`].
    pub async fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        self.query(move |store| store.prune_jobs(keep, ended_before_ms))
            .await?
    }

    /// Watches the store's health: `Err` with the first storage error, for good.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Result<(), StoreError>> {
        self.shared.health.subscribe()
    }

    /// Bytes of changes that wait for the disk.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// How far the disk is behind.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        if self.waiting_bytes() >= self.shared.config.high_bytes {
            Pressure::High
        } else {
            Pressure::Low
        }
    }

    /// Hands a message to whoever writes. A store without a writer takes none.
    fn send(&self, message: Message) -> Result<(), StoreError> {
        let sent = match &self.way {
            Way::Thread(sender) => {
                let urgent = !matches!(message, Message::Changes { ack: None, .. })
                    || self.pressure() == Pressure::High;
                let sent = sender.send(message).is_ok();
                if urgent {
                    self.shared.bell.ring();
                }
                sent
            }
            Way::Task(sender) => sender.send(message).is_ok(),
            Way::Inline(_) => false,
        };
        if sent {
            Ok(())
        } else {
            Err(StoreError::Closed)
        }
    }

    fn enqueue(&self, changes: Vec<Change>, ack: Option<Ack>) -> Result<Pressure, StoreError> {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        self.shared.refusal()?;
        match &self.way {
            Way::Inline(store) => {
                let result = lock(store).apply(&changes);
                if let Err(error) = &result {
                    self.shared.stop(error);
                }
                if let Some(ack) = ack {
                    // Whoever committed may have stopped waiting.
                    let _unheard = ack.send(result.clone());
                }
                result.map(|()| Pressure::Low)
            }
            Way::Thread(_) | Way::Task(_) => {
                let weight = changes.iter().map(Change::weight).sum();
                let limit = self.shared.config.max_waiting_bytes;
                let waiting = self.shared.waiting.fetch_add(weight, Ordering::SeqCst);
                // A single group larger than the limit passes when nothing else waits, or it never could.
                if waiting > 0 && waiting.saturating_add(weight) > limit {
                    self.shared.waiting.fetch_sub(weight, Ordering::SeqCst);
                    return Err(StoreError::Busy { waiting, limit });
                }
                let message = Message::Changes {
                    changes,
                    weight,
                    ack,
                };
                if self.send(message).is_err() {
                    self.shared.waiting.fetch_sub(weight, Ordering::SeqCst);
                    return Err(StoreError::Closed);
                }
                Ok(self.pressure())
            }
        }
    }
}

fn lock(store: &Mutex<Box<dyn Store>>) -> MutexGuard<'_, Box<dyn Store>> {
    // A store is whole after every batch, even if a question to it panicked.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
