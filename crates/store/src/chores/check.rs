//! Checking a store: every row is counted, read, and held against the others.
//!
//! It changes nothing that is kept, and finds more than a start does, which looks at the index alone.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sled::{Finding, inspect};
use crate::{JobId, SledOptions, StoreError};

/// Problems that are told one by one; more are only counted.
const MOST: usize = 100;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The state directory.
    pub dir: PathBuf,
    /// Changes made so far.
    pub batch: u64,
    /// The lowest job id that was never handed out.
    pub next_job_id: JobId,
    /// Rows of each kind.
    pub counts: Counts,
    /// What is wrong, the first hundred of it.
    pub problems: Vec<Problem>,
    /// Problems that are not among those.
    pub more_problems: u64,
    /// Whether a scheduler can start on it.
    pub can_start: bool,
}

/// Rows of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Known workers.
    pub workers: u64,
    /// Cache hints.
    pub hints: u64,
    /// Rates.
    pub rates: u64,
    /// Fair-share debts.
    pub debts: u64,
    /// Clients' sturdy refs.
    pub clients: u64,
    /// Jobs that are not over.
    pub open_jobs: u64,
    /// Jobs that are.
    pub ended_jobs: u64,
    /// Sealed descriptions.
    pub descriptions: u64,
    /// Clients' keys for their jobs.
    pub keys: u64,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The files, the marker or the index are such that no scheduler starts on them.
    Refused(String),
    /// A record of a job that is over cannot be read.
    Record(JobId),
    /// A description cannot be read: this job alone will fail.
    Description(JobId),
    /// A durable job that is not over has no description: it will fail.
    NoDescription(JobId),
    /// A description of a job that is not there or is over. It only takes room.
    StrayDescription(JobId),
    /// A client's key for a job that is not there. It does no harm.
    StrayKey {
        /// The client.
        client: String,
        /// Its key.
        key: String,
    },
    /// The key under which this job was submitted does not find it: submitted again, it would be a second job.
    NoKey(JobId),
    /// Something else that only a defect of the program explains, in words.
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) => write!(f, "{what}"),
            Self::Record(id) => write!(f, "the record of job {id}, which is over, cannot be read"),
            Self::Description(id) => write!(
                f,
                "the description of job {id} cannot be read: the job will fail"
            ),
            Self::NoDescription(id) => {
                write!(f, "the description of job {id} is gone: the job will fail")
            }
            Self::StrayDescription(id) => {
                write!(
                    f,
                    "there is a description of job {id}, and no such job waits"
                )
            }
            Self::StrayKey { client, key } => write!(
                f,
                "client {client:?} has a key {key:?} for a job that is not there"
            ),
            Self::NoKey(id) => write!(f, "job {id} cannot be found by its client's key"),
            Self::Other(what) => write!(f, "{what}"),
        }
    }
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, problem: Problem) {
        if matches!(problem, Problem::Refused(_)) {
            self.can_start = false;
        }
        if self.problems.len() < MOST {
            self.problems.push(problem);
        } else {
            self.more_problems += 1;
        }
    }

    fn take(&mut self, finding: Finding) {
        let refused = |what: String| Problem::Refused(what);
        match finding {
            Finding::Meta { batch, next_job_id } => {
                self.batch = batch;
                self.next_job_id = next_job_id;
            }
            Finding::Row(kind) => self.count(kind),
            Finding::Rows { found, expected } => self.problem(refused(format!(
                "its index has {found} rows, and should have {expected}"
            ))),
            Finding::Digest => self.problem(refused("rows of its index were altered".to_owned())),
            Finding::Behind { found, expected } => self.problem(refused(format!(
                "its last changes are missing: it ends at change {found}, and there were at least {expected}"
            ))),
            Finding::Empty => {
                self.problem(refused("its data files are there, but empty".to_owned()));
            }
            Finding::Unreadable { what, job } => self.problem(match (what, job) {
                ("a description", Some(id)) => Problem::Description(id),
                ("an ended job's record", Some(id)) => Problem::Record(id),
                ("a client's key", _) => Problem::Other(format!("{what} cannot be read")),
                (_, Some(id)) => refused(format!("the record of job {id} cannot be read")),
                (_, None) => refused(format!("{what} cannot be read")),
            }),
            Finding::StrayDescription(id) => self.problem(Problem::StrayDescription(id)),
            Finding::NoDescription(id) => self.problem(Problem::NoDescription(id)),
            Finding::StrayKey { client, key } => self.problem(Problem::StrayKey { client, key }),
            Finding::NoKey(id) => self.problem(Problem::NoKey(id)),
            Finding::Misplaced(id) => self.problem(Problem::Other(format!(
                "the record of job {id} is in another one's place"
            ))),
            Finding::HintDays { hints, days } => self.problem(Problem::Other(format!(
                "there are {hints} cache hints, and {days} of them are listed by age"
            ))),
            Finding::Unknown => {
                self.problem(Problem::Other("there is a row of no known kind".to_owned()));
            }
        }
    }

    fn count(&mut self, kind: &str) {
        let counts = &mut self.counts;
        let count = match kind {
            "worker" => &mut counts.workers,
            "hint" => &mut counts.hints,
            "rate" => &mut counts.rates,
            "debt" => &mut counts.debts,
            "client" => &mut counts.clients,
            "open job" => &mut counts.open_jobs,
            "ended job" => &mut counts.ended_jobs,
            "description" => &mut counts.descriptions,
            _ => &mut counts.keys,
        };
        *count += 1;
    }
}

/// Checks the store in the state directory `dir`, which no scheduler may use meanwhile.
///
/// # Errors
/// What keeps it from being looked at: [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::Foreign`],
/// [`StoreError::Missing`], [`StoreError::Io`]. Damage is told in the report.
pub fn check(dir: &Path, options: SledOptions) -> Result<Report, StoreError> {
    let mut report = Report {
        dir: dir.to_owned(),
        can_start: true,
        ..Report::default()
    };
    let looked = inspect(dir, options, &mut |finding| report.take(finding));
    match looked {
        Err(StoreError::Damaged { what, .. }) => report.problem(Problem::Refused(what)),
        other => other?,
    }
    Ok(report)
}
