//! The child's side: one process makes one build context with libgit2, and is killed when that takes too long.
//!
//! Nothing here may outlive the worker, write to standard output other than reports, or read the configuration of the
//! user who runs the worker.

mod checkout;
mod context;
mod fetch;
mod gitmodules;
mod libgit2;
mod merge;
mod report;
mod standalone;
mod store;
mod submodules;
mod tree;

use std::io::Read;
use std::process::ExitCode;

use crate::GitError;
use crate::protocol::{Order, Report};
use report::Reporter;

/// Why a step of the work ended, as the steps above it need to tell.
enum Trouble {
    /// Something in a mirror cannot be read: it may help to fetch it anew.
    Damaged(String),
    /// Nothing to be done about it here.
    Final(GitError),
}

impl From<GitError> for Trouble {
    fn from(error: GitError) -> Trouble {
        Trouble::Final(error)
    }
}

/// What a program does that was started as the git child: reads one order from standard input, carries it out, and
/// reports on standard output. The result is in the last report; the exit code only tells whether there is one.
///
/// The process gets SIGKILL from the system when the thread that started it ends, so it never outlives the worker.
#[must_use]
pub fn main() -> ExitCode {
    let kill = Some(rustix::process::Signal::KILL);
    if rustix::process::set_parent_process_death_signal(kill).is_err() {
        return ExitCode::from(125);
    }
    let mut text = Vec::new();
    if std::io::stdin().lock().read_to_end(&mut text).is_err() {
        return ExitCode::from(125);
    }
    let Ok(order) = serde_json::from_slice::<Order>(&text) else {
        return ExitCode::from(125);
    };
    // The worker may have died before the signal was asked for.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent.and_then(|pid| u32::try_from(pid).ok()) != Some(order.parent) {
        return ExitCode::from(125);
    }
    let reporter = Reporter::new();
    let last = match run(&order, &reporter) {
        Ok(done) => done,
        Err(error) => Report::Failed(error),
    };
    reporter.send(&last);
    ExitCode::SUCCESS
}

fn run(order: &Order, reporter: &Reporter) -> Result<Report, GitError> {
    libgit2::configure(order.silence_limit)
        .map_err(|error| GitError::worker("setting up libgit2", error.message()))?;
    context::make(order, reporter)
}
