//! What a sandbox is asked, and what it answers.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bstr::BString;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{Rootfs, StepLog};

/// A step under way.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Ended, SandboxError>> + Send + 'a>>;

/// Runs commands. Several may run at once.
pub trait Sandbox: Send + Sync + 'static {
    /// Runs `step` to its end, with its output appended to `log` (which stays open). When `cancel` fires the whole tree of
    /// processes is killed, and the answer is [`Ended::Cancelled`] once nothing of it is left.
    fn run<'a>(
        &'a self,
        step: Step,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> Running<'a>;

    /// The shell of steps that name none: a program and its arguments.
    fn default_shell(&self) -> Vec<BString> {
        ["/usr/bin/env", "bash", "-c"].map(BString::from).into()
    }
}

/// What to run.
#[derive(Debug)]
pub struct Step {
    /// In what.
    pub rootfs: Rootfs,
    /// The program and its arguments; at least one.
    pub argv: Vec<BString>,
    /// Where; absolute. It is created if it is missing.
    pub cwd: BString,
    /// The environment, in order.
    pub env: Vec<(BString, BString)>,
    /// As whom: uid and gid.
    pub user: (u32, u32),
    /// What of the network it sees.
    pub network: Network,
    /// Caches to mount.
    pub caches: Vec<CacheMount>,
    /// Secrets to mount.
    pub secrets: Vec<SecretFile>,
    /// What it may use at most.
    pub limits: Limits,
}

/// What a step sees of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A loopback device of its own.
    None,
    /// The machine's.
    Host,
}

/// A cache in a step.
#[derive(Debug)]
pub struct CacheMount {
    /// What.
    pub tree: Rootfs,
    /// Where; absolute in the step's tree.
    pub target: BString,
}

/// A secret in a step.
pub struct SecretFile {
    /// What.
    pub value: Zeroizing<Vec<u8>>,
    /// Where; absolute in the step's tree.
    pub target: BString,
}

/// What a step may use at most; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// CPUs, in parts of one.
    pub cpus: Option<f64>,
    /// Processes and threads at once.
    pub pids: Option<u64>,
    /// Time on the wall.
    pub time: Option<Duration>,
    /// Output, in bytes.
    pub output: Option<u64>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It, or a part of it, was killed for its use of memory, and then it failed.
    OutOfMemory,
    /// It was killed when its time was up.
    TimedOut,
    /// It was killed when it had printed too much.
    TooMuchOutput,
    /// It was cancelled.
    Cancelled,
}

/// A step could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The step asks for something that cannot be.
    #[error("{0}")]
    Request(String),
    /// The machine cannot do it: the runtime is missing or broken, a tree cannot be mounted, the disk is full.
    #[error("{message}")]
    Machine {
        /// What, why, what to do.
        message: String,
        /// Whether room on the disk would help.
        full_disk: bool,
    },
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
