//! The sandbox that runs steps in containers, by an OCI runtime such as `runc`.
//!
//! ```text
//! run ──► request (checked) ──► a thread: supervise ──► enclosure: trees, secrets, config.json, all in a private mount namespace
//!  │                                │                └► runtime: first process of a private process namespace ──► the step
//!  │  cancel, time, output ──► leash ── kills the runtime, and so all of that
//!  └─ output ◄──────────────────────── one pipe
//! ```

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::{Fault, fault, without_places};
use super::leash::{Leash, PullOnDrop};
use super::machine::Machine;
use super::output::{Output, Printed};
use super::request::{self, Request};
use super::supervise::{End, supervise};
use super::{Ended, Limits, RuncConfig, Running, Sandbox, SandboxError, Step};
use crate::StepLog;
use crate::store::is_full_disk;

/// What a step's thread needs for its own calls; the step's processes have their own.
const STACK: usize = 512 * 1024;

/// How long the log may take for the last piece of a step's output.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Runs steps in containers.
#[derive(Debug)]
pub struct RuncSandbox {
    machine: Arc<Machine>,
}

impl RuncSandbox {
    /// Sees that the runtime works, and ends and removes what an earlier sandbox in the same directory left.
    ///
    /// # Errors
    /// What is missing, and what to do: the runtime, root's rights, the directory. Another sandbox uses the directory.
    pub async fn open(config: RuncConfig) -> Result<Self, SandboxError> {
        Ok(Self {
            machine: Arc::new(Machine::open(&config).await?),
        })
    }

    /// Whether steps can be given these limits.
    ///
    /// # Errors
    /// They make no sense, or the machine lacks a controller that one of them needs.
    pub fn can_enforce(&self, limits: &Limits) -> Result<(), SandboxError> {
        let why = match request::check(limits) {
            Ok(()) => self.machine.cgroups.cannot_enforce(limits),
            Err(why) => Some(why),
        };
        why.map_or(Ok(()), |why| Err(SandboxError::Request(why)))
    }

    async fn run_step(
        &self,
        step: Step,
        log: &StepLog,
        cancel: &CancellationToken,
    ) -> Result<Ended, SandboxError> {
        if cancel.is_cancelled() {
            return Ok(Ended::Cancelled);
        }
        self.can_enforce(&step.limits)?;
        let request = Request::new(step)?;
        let limits = request.limits;
        let places = request.places();
        let (reading, writing) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| no_means("a pipe", &error.into()))?;
        let output =
            Output::new(reading, limits.output).map_err(|error| no_means("a pipe", &error))?;

        let leash = Arc::new(Leash::default());
        let _pull = PullOnDrop(&leash);
        let (done, mut end) = oneshot::channel();
        let (machine, held) = (Arc::clone(&self.machine), Arc::clone(&leash));
        thread::Builder::new()
            .name("obuilder-step".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let end = supervise(&machine, request, writing, &held);
                // Before the answer: who has it may close the sandbox.
                drop(machine);
                // Nobody may wait any more.
                let _ = done.send(end);
            })
            .map_err(|error| no_means("a thread", &error))?;

        let over = CancellationToken::new();
        let printed = output.carry(log, &leash, &over);
        tokio::pin!(printed);
        let deadline = limits
            .time
            .and_then(|time| Instant::now().checked_add(time));
        let mut stopped = None;
        let mut all = None;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut end => break end,
                () = cancel.cancelled(), if stopped.is_none() => {
                    stopped = Some(Ended::Cancelled);
                    leash.pull();
                }
                () = until(deadline), if stopped.is_none() => {
                    stopped = Some(Ended::TimedOut);
                    leash.pull();
                }
                done = &mut printed, if all.is_none() => all = Some(done),
            }
        };
        over.cancel();
        let printed = match all {
            Some(printed) => printed,
            // What is left is no more than a pipe holds.
            None => tokio::time::timeout(LAST_WORDS, printed)
                .await
                .unwrap_or_else(|_| Printed {
                    failed: Some(io::ErrorKind::TimedOut.into()),
                    ..Printed::default()
                }),
        };
        let end = end.unwrap_or_else(|_| {
            Err(SandboxError::Machine {
                message: "the thread of a step broke off".to_owned(),
                full_disk: false,
            })
        });
        self.verdict(end?, stopped, printed, &places)
    }

    /// What became of a step that was `stopped` by us or not, and whose trees are in `places`.
    fn verdict(
        &self,
        end: Option<End>,
        stopped: Option<Ended>,
        printed: Printed,
        places: &[String],
    ) -> Result<Ended, SandboxError> {
        if let Some(stopped) = stopped {
            return Ok(stopped);
        }
        if printed.too_much {
            return Ok(Ended::TooMuchOutput);
        }
        if let Some(error) = printed.failed {
            return Err(SandboxError::Machine {
                message: format!("cannot keep the output of a step: {error}"),
                full_disk: is_full_disk(&error),
            });
        }
        let Some(end) = end else {
            return Ok(Ended::Cancelled);
        };
        if end.status.success() && end.started {
            return Ok(Ended::Exited(0));
        }
        if end.out_of_memory {
            return Ok(Ended::OutOfMemory);
        }
        if end.started {
            return Ok(ended(&end));
        }
        let said = without_places(&printed.beginning, places);
        match fault(&printed.beginning) {
            // OBuilder's answer, too: the log has the runtime's words, and the status is the runtime's.
            Fault::Step if !end.status.success() => Ok(ended(&end)),
            Fault::FullDisk => Err(self.not_started(&end, &said, true)),
            Fault::Step | Fault::Machine => Err(self.not_started(&end, &said, false)),
        }
    }

    fn not_started(&self, end: &End, said: &str, full_disk: bool) -> SandboxError {
        let runtime = self.machine.runtime.display();
        let why = if said.is_empty() {
            "it said nothing"
        } else {
            said
        };
        SandboxError::Machine {
            message: format!("{runtime} did not start a step ({}): {why}", end.status),
            full_disk,
        }
    }
}

impl Sandbox for RuncSandbox {
    fn run<'a>(
        &'a self,
        step: Step,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> Running<'a> {
        Box::pin(self.run_step(step, log, cancel))
    }
}

fn ended(end: &End) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;

    match end.status.code() {
        Some(code) => Ended::Exited(code),
        // The runtime itself was killed, by somebody else, and the step with it.
        None => Ended::Signalled(end.status.signal().unwrap_or_default()),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn no_means(what: &str, error: &io::Error) -> SandboxError {
    SandboxError::Machine {
        message: format!("cannot have {what} for a step: {error}"),
        full_disk: false,
    }
}
