//! What happened in a simulated cluster, as those outside of it saw it: clients, the machines that ran jobs, and whoever broke things.
//!
//! Nothing here comes from the scheduler's own books: the history is what they are held against.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How an execution of a job on a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// The job did what it should.
    Passed,
    /// The build failed.
    Failed,
    /// The machine failed before the build could.
    Infrastructure,
    /// It was stopped by whoever runs it, or its machine crashed.
    Stopped,
}

/// One execution of a job on a worker.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Its number in the history.
    pub number: usize,
    /// The job's key.
    pub job: String,
    /// The worker's name.
    pub worker: String,
    /// When it began.
    pub started: Duration,
    /// When and how it ended.
    pub ended: Option<(Duration, ExecEnd)>,
    /// Lines that it printed.
    pub lines: u32,
}

/// How a job ended, as somebody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed, with this output.
    Passed(String),
    /// It did not, for this reason.
    Failed(String),
}

/// What is known of a job from outside.
#[derive(Clone, Debug, Default)]
pub struct JobHistory {
    /// When the client first tried to submit it.
    pub asked: Option<Duration>,
    /// When and under which id it was first accepted.
    pub accepted: Option<(Duration, String)>,
    /// Why it was refused for good, if it was.
    pub refused: Option<String>,
    /// When cancelling it was first asked for.
    pub cancel_asked: Option<Duration>,
    /// When the scheduler said that it is cancelled.
    pub cancelled: Option<Duration>,
    /// All that its client was told of its end, in order.
    pub verdicts: Vec<(Duration, Verdict)>,
    /// The log, as its client put it together across connections.
    pub log: Vec<u8>,
    /// Whether the client read it to its end.
    pub log_complete: bool,
    /// How often the client went on reading after a lost connection.
    pub resumed_reads: u32,
}

/// Everything that happened. Clones are the same history.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    digest: Sha256,
    events: u64,
    jobs: BTreeMap<String, JobHistory>,
    executions: Vec<Execution>,
    violations: Vec<String>,
    trace: bool,
}

impl History {
    /// An empty history, which prints what happens to standard error as it does if `trace`.
    #[must_use]
    pub fn new(trace: bool) -> Self {
        let history = Self::default();
        history.inner().trace = trace;
        history
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Everything in it is whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of something that happened.
    pub fn note(&self, what: impl fmt::Display) {
        let line = format!("{:>12.3} {what}\n", now().as_secs_f64());
        let mut inner = self.inner();
        inner.digest.update(line.as_bytes());
        inner.events += 1;
        if inner.trace {
            trace(&line);
        }
    }

    /// Takes note of a broken promise.
    pub fn violation(&self, what: impl fmt::Display) {
        self.note(format_args!("VIOLATION {what}"));
        self.inner().violations.push(what.to_string());
    }

    /// Changes what is known of a job.
    pub fn job<T>(&self, key: &str, change: impl FnOnce(&mut JobHistory) -> T) -> T {
        let mut inner = self.inner();
        change(inner.jobs.entry(key.to_owned()).or_default())
    }

    /// All jobs by key.
    #[must_use]
    pub fn jobs(&self) -> BTreeMap<String, JobHistory> {
        self.inner().jobs.clone()
    }

    /// All executions, in the order in which they began.
    #[must_use]
    pub fn executions(&self) -> Vec<Execution> {
        self.inner().executions.clone()
    }

    /// What was found to be wrong.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    /// SHA-256 of all that was noted, in hexadecimal, and how much that was.
    #[must_use]
    pub fn digest(&self) -> (String, u64) {
        let inner = self.inner();
        (
            format!("{:x}", inner.digest.clone().finalize()),
            inner.events,
        )
    }

    /// A job begins on a worker. Gives the number of the execution.
    #[must_use]
    pub fn execution_started(&self, job: &str, worker: &str) -> usize {
        let mut inner = self.inner();
        let number = inner.executions.len();
        inner.executions.push(Execution {
            number,
            job: job.to_owned(),
            worker: worker.to_owned(),
            started: now(),
            ended: None,
            lines: 0,
        });
        drop(inner);
        self.note(format_args!("{worker} starts {job} as execution {number}"));
        number
    }

    /// An execution is about to print a line.
    pub fn execution_prints(&self, number: usize) {
        if let Some(execution) = self.inner().executions.get_mut(number) {
            execution.lines += 1;
        }
    }

    /// An execution is over. Only the first end counts.
    pub fn execution_ended(&self, number: usize, end: ExecEnd) {
        let mut inner = self.inner();
        let Some(execution) = inner.executions.get_mut(number) else {
            return;
        };
        if execution.ended.is_some() {
            return;
        }
        execution.ended = Some((now(), end));
        let line = format!("{} ends execution {number}: {end:?}", execution.worker);
        drop(inner);
        self.note(line);
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a trace is for the person who asked for it"
)]
fn trace(line: &str) {
    eprint!("{line}");
}

/// Simulated time since the beginning.
#[must_use]
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_else(crate::determinism::elapsed)
}
