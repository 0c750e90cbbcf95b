//! What may be looked at: plain pictures of a pool, made on request and never kept up to date.
//!
//! [`PoolView`] walks every queue and is for people; [`PoolStats`] only reads counters and is for machines that ask often.

use crate::ids::{ClientId, Hint, JobId, PoolName, WorkerId, WorkerName};
use crate::policy::Policy;
use crate::rate::Rate;
use crate::reasons::{AdminPause, PauseNote, Reasons};
use crate::time::Timestamp;

/// A whole pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// How it decides.
    pub policy: Policy,
    /// The sum of the capacities of its connected workers.
    pub capacity: u64,
    /// What waits: jobs or workers.
    pub main: MainView,
    /// Jobs held aside, because their clients may run no more at once; in queue order.
    pub held: Vec<QueuedJob>,
    /// The connected workers, by name.
    pub workers: Vec<WorkerView>,
    /// The workers known and not connected, by name.
    pub disconnected: Vec<KnownWorker>,
    /// The clients seen since the start, by name.
    pub clients: Vec<ClientView>,
}

/// What waits in a pool. Where both do, because the workers are avoided by the jobs, it is the jobs.
#[derive(Debug, Clone, PartialEq)]
pub enum MainView {
    /// Jobs wait, the next to run first.
    Backlog(Vec<QueuedJob>),
    /// Workers wait, the next to be used first; a worker is listed once for each job it asked for.
    Ready(Vec<WorkerName>),
}

/// One queued job.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedJob {
    /// Its number.
    pub job: JobId,
    /// Who submitted it.
    pub client: ClientId,
    /// Its hint; may be empty.
    pub hint: Hint,
    /// Whether it goes before all that are not.
    pub urgent: bool,
    /// The time that orders it among its peers.
    pub fair_start: Timestamp,
    /// Its estimated cost in seconds, while on a worker's local queue.
    pub cost: Option<u32>,
}

/// One connected worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    /// This registration.
    pub id: WorkerId,
    /// Its name.
    pub name: WorkerName,
    /// How many jobs it says it runs at once; 0 if unknown.
    pub capacity: u32,
    /// Why it gets no work; empty when it is active.
    pub inactive: Reasons,
    /// What it says of its own pause, which is among the reasons then.
    pub pause_note: Option<PauseNote>,
    /// What is known of an administrator's, which is among the reasons then.
    pub pause: Option<AdminPause>,
    /// The estimated cost in seconds of its local queue.
    pub workload: u64,
    /// Its local queue, the next to run first.
    pub queue: Vec<QueuedJob>,
    /// Jobs it has taken and not finished.
    pub running: u32,
}

/// One worker a pool remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWorker {
    /// Its name.
    pub name: WorkerName,
    /// Its registration, while connected.
    pub connected: Option<WorkerId>,
    /// Connected: whether nothing keeps it from working. Otherwise: whether no administrator paused it.
    pub active: bool,
    /// What is known of an administrator's pause, while it lasts.
    pub pause: Option<AdminPause>,
}

/// One client.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientView {
    /// Its name.
    pub id: ClientId,
    /// Its rate in this pool.
    pub rate: Rate,
    /// The earliest fair start of its next job; in the past if it has no debt.
    pub next_fair_start: Timestamp,
}

/// Counts of queued jobs by priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Urgent jobs.
    pub high: u64,
    /// The others.
    pub low: u64,
}

impl Lengths {
    /// Both together.
    pub fn total(self) -> u64 {
        self.high + self.low
    }

    pub(crate) fn count(&mut self, urgent: bool) -> &mut u64 {
        if urgent {
            &mut self.high
        } else {
            &mut self.low
        }
    }
}

/// The figures of a pool, for metrics. Made without walking any queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Jobs ever submitted; those queued again not counted again.
    pub submitted: u64,
    /// Jobs ever taken by workers; those adopted not counted again.
    pub accepted: u64,
    /// Jobs ever cancelled while queued.
    pub cancelled: u64,
    /// Connected workers.
    pub connected: u64,
    /// The sum of their capacities.
    pub capacity: u64,
    /// Requests for work that wait.
    pub ready: u64,
    /// Connected workers that are inactive.
    pub paused: u64,
    /// Jobs running.
    pub running: u64,
    /// The main queue.
    pub incoming: Lengths,
    /// The local queue of each connected worker, by name.
    pub local: Vec<(WorkerName, Lengths)>,
    /// What each client seen since the start has queued, on any queue or held aside, by name.
    pub clients: Vec<(ClientId, Lengths)>,
}
