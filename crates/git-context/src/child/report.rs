//! The child's way to say things: log lines, steps and signs of life, each on one line of standard output.
//!
//! Signs of life are rationed, since libgit2 offers one for each object and file. If the worker does not listen any
//! more, the child has no purpose and ends.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::protocol::Report;

/// The least time between two signs of life.
const ALIVE_EVERY: Duration = Duration::from_millis(100);
/// The least time between two progress lines in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// The sink of all reports of this process.
#[derive(Debug)]
pub(super) struct Reporter {
    last_alive: Cell<Option<Instant>>,
    last_progress: Cell<Instant>,
}

impl Reporter {
    pub(super) fn new() -> Reporter {
        Reporter {
            last_alive: Cell::new(None),
            last_progress: Cell::new(Instant::now()),
        }
    }

    /// A line for the job's log.
    pub(super) fn log(&self, line: impl Into<String>) {
        self.send(&Report::Log(line.into()));
    }

    /// From now on the child is doing this, and waits for `server` if there is one.
    pub(super) fn step(&self, doing: impl Into<String>, server: Option<String>) {
        self.last_progress.set(Instant::now());
        self.send(&Report::Step {
            doing: doing.into(),
            server,
        });
    }

    /// There is progress.
    pub(super) fn alive(&self) {
        let now = Instant::now();
        let due = self
            .last_alive
            .get()
            .is_none_or(|last| now.duration_since(last) >= ALIVE_EVERY);
        if due {
            self.last_alive.set(Some(now));
            self.send(&Report::Alive);
        }
    }

    /// There is progress, and the log gets a line about it if it had none for a while.
    pub(super) fn progress(&self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if now.duration_since(self.last_progress.get()) >= PROGRESS_EVERY {
            self.last_progress.set(now);
            self.log(line());
        } else {
            self.alive();
        }
    }

    pub(super) fn send(&self, report: &Report) {
        let sent = serde_json::to_vec(report)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                let mut output = std::io::stdout().lock();
                output.write_all(&line)?;
                output.flush()
            });
        if sent.is_err() {
            std::process::exit(1);
        }
    }
}
