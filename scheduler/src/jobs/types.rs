//! The plain types in which jobs are spoken of by id.

use ocluster_api::Descriptor;
use ocluster_scheduling::{ClientId, PoolName};
use ocluster_store::{JobId, JobRecord, JobState, StoreError, TimeLimits};

use crate::state::SubmitError;

/// A durable job to be accepted.
pub(crate) struct Submission {
    /// Where it is to run.
    pub(crate) pool: PoolName,
    /// What is to be done.
    pub(crate) descriptor: Descriptor,
    /// Whether it goes before all that are not urgent.
    pub(crate) urgent: bool,
    /// Chosen by the client.
    pub(crate) key: Option<String>,
    /// What the client asks for; the pool's defaults and maxima are applied to it.
    pub(crate) limits: TimeLimits,
}

/// A durable job that was accepted, and is on disk.
pub(crate) struct Accepted {
    /// Its id.
    pub(crate) id: JobId,
    /// Whether it was accepted before, under the same key.
    pub(crate) known: bool,
}

/// Who asks about jobs.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// A client, who sees its own jobs and no others.
    Client(ClientId),
    /// An administrator, who sees all.
    Admin,
}

/// Which jobs are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobFilter {
    /// Only ids below this one.
    pub(crate) before: Option<JobId>,
    /// At most so many; 0 for 100; never more than 1000.
    pub(crate) limit: usize,
    /// Only these states; empty for all.
    pub(crate) states: Vec<JobState>,
    /// Only this pool.
    pub(crate) pool: Option<String>,
    /// Only this client. Nothing is found if the asker is another client.
    pub(crate) client: Option<String>,
}

/// A job as it is shown: its record as of now.
pub(crate) struct Shown {
    /// The record, with the present length of the log.
    pub(crate) record: JobRecord,
    /// Whether it runs on a worker that is not connected at present.
    pub(crate) waits_for_worker: bool,
}

/// Why a job was not found. The same for jobs that are not there and for those of others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// There is none.
    #[error("there is no job \"{0}\" of yours; it may have been forgotten because of its age")]
    Unknown(String),
    /// The text is no id, nor the beginning of one.
    #[error("\"{0}\" is not a job id; a job id looks like j31n03")]
    Form(String),
    /// It is the beginning of several ids.
    #[error("\"{text}\" is the beginning of several job ids: {candidates}")]
    Ambiguous {
        /// What was given.
        text: String,
        /// Some of them.
        candidates: String,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a job was not stopped, or not queued again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StopError {
    /// It ended before.
    #[error("job {id} is over: it {ended}")]
    Over {
        /// The job.
        id: JobId,
        /// How it ended, as in "has passed".
        ended: String,
    },
    /// Only a durable job can run a second time.
    #[error(
        "job {0} cannot be queued again: it lives only as long as its client, who waits for this attempt"
    )]
    NotDurable(JobId),
    /// It waits already.
    #[error("job {0} is queued already")]
    Queued(JobId),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a job stands where it stands, in words.
pub(crate) struct Explained {
    /// One sentence.
    pub(crate) summary: String,
    /// More, the most important first.
    pub(crate) details: Vec<String>,
    /// The job.
    pub(crate) shown: Shown,
}

/// What a submission came to.
pub(crate) type Submitted = Result<Accepted, SubmitError>;
