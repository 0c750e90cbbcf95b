//! What survives the scheduler: the rows of jobs and the core's records, as far as they were flushed.

use std::collections::{BTreeMap, BTreeSet};

use ocluster_scheduling::{Hint, JobId, Record, Timestamp};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Passed,
    Failed,
    Cancelled,
    /// Too many attempts came to nothing.
    Lost,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    /// Its last attempt is with this worker.
    Running {
        worker: usize,
    },
    Ended(End),
}

/// All that is remembered of a job.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The client's key for it.
    pub(crate) request: usize,
    pub(crate) client: usize,
    pub(crate) pool: usize,
    pub(crate) hint: Hint,
    pub(crate) urgent: bool,
    pub(crate) fair_start: Timestamp,
    /// The number of the last attempt.
    pub(crate) attempts: u32,
    /// How many of them came to nothing by themselves.
    pub(crate) failures: u32,
    pub(crate) avoid: BTreeSet<usize>,
    pub(crate) state: State,
}

/// One thing to write.
#[derive(Debug)]
pub(crate) enum Write {
    Row(JobId, Row),
    Record(Record),
}

/// What a record is about; the last one about it counts.
type About = (u8, String, String, String);

/// The disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) rows: BTreeMap<JobId, Row>,
    records: BTreeMap<About, Record>,
    /// Jobs whose end no client was told yet.
    pub(crate) untold: BTreeSet<JobId>,
}

impl Disk {
    pub(crate) fn apply(&mut self, write: Write) {
        match write {
            Write::Row(job, row) => {
                if matches!(row.state, State::Ended(_)) {
                    self.untold.insert(job);
                }
                self.rows.insert(job, row);
            }
            Write::Record(record) => {
                self.records.insert(about(&record), record);
            }
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.records.values().cloned()
    }

    /// When the next job of this client may start, as far as was flushed.
    pub(crate) fn debt(&self, pool: &str, client: &str) -> Option<Timestamp> {
        let about = (b'd', pool.to_owned(), client.to_owned(), String::new());
        match self.records.get(&about)? {
            Record::Debt {
                next_fair_start, ..
            } => Some(*next_fair_start),
            _ => None,
        }
    }
}

fn about(record: &Record) -> About {
    let (kind, pool, one, other) = match record {
        Record::KnownWorker { pool, name, .. } | Record::ForgottenWorker { pool, name } => {
            (b'w', pool, name.as_str(), "")
        }
        Record::Debt { pool, client, .. } => (b'd', pool, client.as_str(), ""),
        Record::CachedHint {
            pool, hint, worker, ..
        }
        | Record::ExpiredHint { pool, hint, worker } => {
            (b'h', pool, hint.as_str(), worker.as_str())
        }
        Record::Rate { pool, client, .. } | Record::RateDeleted { pool, client } => {
            (b'r', pool, client.as_str(), "")
        }
    };
    (
        kind,
        pool.as_str().to_owned(),
        one.to_owned(),
        other.to_owned(),
    )
}
