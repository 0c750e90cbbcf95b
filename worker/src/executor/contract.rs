//! The contract between the agent, which knows the cluster, and an executor, which knows how to do one kind of job.
//!
//! The agent prepares the build context and the log, calls [`Executor::execute`] on the pool of ordinary threads, and turns the
//! [`Outcome`] into the job's last log line and result. An executor must return soon after its cancel token fires, with everything
//! it started stopped: processes, containers, requests. It must leave nothing outside the directories it was given.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use ocluster_api::{Action, CustomJob, JobSpec};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A job under way: what [`Executor::execute`] returns. `Box::pin(async move { .. })` makes one.
pub type Execution<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Runs jobs of one kind.
///
/// Several jobs may run at once, as many as the worker has slots. The log's first and last lines are the agent's: "Building on ...",
/// and "Job succeeded", "Job cancelled" or the sentence of the [`Failure`].
pub trait Executor: Send + Sync + 'static {
    /// Runs one job to its end. When [`JobContext::cancel`] fires it must stop what it started and return soon; whatever it then says,
    /// the job counts as cancelled. A panic fails this job and nothing else.
    ///
    /// Dropping the future is allowed and must not leave anything running; the agent does so only when the process ends.
    fn execute<'a>(&'a self, job: JobContext<'a>) -> Execution<'a>;

    /// Whether this job needs its build context and scratch directory. If not, no commit is fetched, nothing waits for the disk, and
    /// [`JobContext::context`] and [`JobContext::scratch`] name directories that are not there.
    fn wants_directories(&self, _job: &JobSpec) -> bool {
        true
    }
}

/// What an executor is given.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    /// The job as the client described it, checked.
    pub spec: &'a JobSpec,
    /// The build context: a directory of this job's own, with the commits checked out, or empty. The executor may change it.
    pub context: &'a Path,
    /// A directory of this job's own, mode 0700, for anything else. It is removed after the job, and at the next start if the worker
    /// is killed.
    pub scratch: &'a Path,
    /// Where the job's output goes.
    pub log: &'a JobLog,
    /// Fires when the job is to stop.
    pub cancel: &'a CancellationToken,
}

/// A job's log, as seen by those who write it.
#[derive(Clone, Debug)]
pub struct JobLog {
    chunks: mpsc::Sender<Bytes>,
}

impl JobLog {
    /// The largest piece that is passed on at once, in bytes.
    pub const CHUNK: usize = 64 * 1024;

    /// A log whose chunks arrive at the receiver. At most `pending` chunks wait there before writers wait.
    #[must_use]
    pub fn new(pending: usize) -> (Self, mpsc::Receiver<Bytes>) {
        let (chunks, receiver) = mpsc::channel(pending);
        (Self { chunks }, receiver)
    }

    /// Appends `bytes` as they are. Waits while the log's disk is behind: a flood slows its cause.
    ///
    /// Output of a job whose log is gone already (it was cancelled and nobody listens) is dropped.
    pub async fn write(&self, bytes: impl Into<Bytes>) {
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(Self::CHUNK));
            if self.chunks.send(chunk).await.is_err() {
                return;
            }
        }
    }

    /// Appends one line; the line feed is added.
    pub async fn line(&self, line: impl std::fmt::Display) {
        self.write(format!("{line}\n")).await;
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should. The output is the job's result: empty for a build without a push.
    Succeeded {
        /// What `Job.result` answers.
        output: String,
    },
    /// It did not.
    Failed(Failure),
    /// It was stopped because its cancel token fired.
    Cancelled,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For machines.
    pub cause: Cause,
    /// For people: the job's last log line.
    pub message: String,
}

/// Kinds of failure. Only the first two are the user's; the others say that the job may do better elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The build itself failed.
    Build,
    /// The job asks for something that cannot be: a bad path, an unknown commit, an option that this worker does not offer.
    Request,
    /// The server of the job's repository is away, or failed.
    Source,
    /// The registry to push to, or to fetch base images from, is away, or failed.
    Registry,
    /// Something the job needs from the worker failed before the build began.
    Setup,
    /// A disk of the worker's, or of its engine's, is full.
    DiskFull,
    /// The engine that runs the job is away, or went away.
    Engine,
}

impl JobContext<'_> {
    /// The job, if it is a custom one, as all jobs are that an executor in [`super::Executors::custom`] gets.
    #[must_use]
    pub fn custom_job(&self) -> Option<&CustomJob> {
        match &self.spec.action {
            Action::Custom(job) => Some(job),
            _ => None,
        }
    }

    /// The payload of a custom job whose payload is a text.
    ///
    /// # Errors
    /// A failure that blames the job, with a sentence for the client.
    pub fn payload_text(&self) -> Result<String, Failure> {
        let job = self
            .custom_job()
            .ok_or_else(|| Failure::request("This worker runs only custom jobs"))?;
        job.payload_text()
            .map_err(|error| Failure::request(error.to_string()))
    }
}

impl Failure {
    /// A failed build.
    #[must_use]
    pub fn build(message: impl Into<String>) -> Self {
        Self {
            cause: Cause::Build,
            message: message.into(),
        }
    }

    /// A job that cannot be done as asked.
    #[must_use]
    pub fn request(message: impl Into<String>) -> Self {
        Self {
            cause: Cause::Request,
            message: message.into(),
        }
    }

    /// A job whose surroundings could not be prepared.
    #[must_use]
    pub fn setup(message: impl Into<String>) -> Self {
        Self {
            cause: Cause::Setup,
            message: message.into(),
        }
    }

    /// A job for which a disk of the worker's has no room.
    #[must_use]
    pub fn disk_full(message: impl Into<String>) -> Self {
        Self {
            cause: Cause::DiskFull,
            message: message.into(),
        }
    }

    /// A job whose engine is away.
    #[must_use]
    pub fn engine(message: impl Into<String>) -> Self {
        Self {
            cause: Cause::Engine,
            message: message.into(),
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Cause {
    /// Whether this machine is the trouble, so that the next job will probably fail as well.
    #[must_use]
    pub fn is_the_workers(self) -> bool {
        matches!(self, Self::Setup | Self::DiskFull | Self::Engine)
    }

    /// The word for logs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Request => "request",
            Self::Source => "source",
            Self::Registry => "registry",
            Self::Setup => "setup",
            Self::DiskFull => "disk-full",
            Self::Engine => "engine",
        }
    }

    /// The code in a job's record, which is to be clear without knowing that it speaks of a worker.
    #[must_use]
    pub fn record_code(self) -> &'static str {
        match self {
            Self::Build => "build-failed",
            Self::Request => "bad-request",
            Self::Source => "source-failed",
            Self::Registry => "registry-failed",
            Self::Setup => "worker-setup",
            Self::DiskFull => "worker-disk-full",
            Self::Engine => "engine-away",
        }
    }
}
