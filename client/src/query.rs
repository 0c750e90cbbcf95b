//! Which jobs are wanted, and what became of them.

use ocluster_api::extensions_capnp::{job_query, submission_endpoint};
use ocluster_cli::jobs::{JobInfo, JobState};

/// Which of a client's jobs are wanted. The default is all, newest first, in pages of a size that the scheduler chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Only jobs older than the one with this id: [`crate::JobPage::more`] of the page before.
    pub before: Option<String>,
    /// At most so many, up to 1000; 0 leaves it to the scheduler.
    pub limit: u32,
    /// Only jobs in one of these states, unless empty.
    pub states: Vec<JobState>,
    /// Only jobs of this pool.
    pub pool: Option<String>,
}

impl JobQuery {
    pub(crate) fn write(&self, mut to: job_query::Builder<'_>) {
        to.set_before(self.before.as_deref().unwrap_or_default());
        to.set_limit(self.limit);
        to.set_pool(self.pool.as_deref().unwrap_or_default());
        let mut states = to.init_states(u32::try_from(self.states.len()).unwrap_or(u32::MAX));
        for (place, state) in (0..).zip(&self.states) {
            states.set(place, state.name());
        }
    }
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The jobs that changed, as they are now.
    pub jobs: Vec<JobInfo>,
    /// What to ask with the next time.
    pub cursor: u64,
    /// Changes went by that can be told no more: list the jobs anew.
    pub missed: bool,
}

impl Changes {
    pub(crate) fn read(
        answer: submission_endpoint::watch_results::Reader<'_>,
    ) -> Result<Self, capnp::Error> {
        let jobs = answer.get_jobs()?;
        Ok(Self {
            jobs: jobs.iter().map(JobInfo::read).collect::<Result<_, _>>()?,
            cursor: answer.get_cursor(),
            missed: answer.get_missed(),
        })
    }
}

/// What a scheduler offers beyond OCluster's protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(Vec<String>);

impl Features {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// The names of all of them, also of those that this library does not know.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether it accepts durable jobs.
    #[must_use]
    pub fn durable_jobs(&self) -> bool {
        self.has("durable-jobs")
    }

    /// Whether it keeps the time limits of a job.
    #[must_use]
    pub fn time_limits(&self) -> bool {
        self.has("time-limits")
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|offered| offered == name)
    }
}
