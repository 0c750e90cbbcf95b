//! What an operator chooses about sandboxes. Nothing here looks at the machine.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How steps are run by an OCI runtime.
#[derive(Clone, Debug)]
pub struct RuncConfig {
    /// The runtime: a name to look up in `PATH`, or a path. `runc`, or a program with its command line, such as `crun` and `youki`.
    pub runtime: PathBuf,
    /// A directory for the sandbox alone. It is created if it is missing, and one sandbox at a time may use it.
    pub state: PathBuf,
    /// Whether steps that ask for their files to be on the disk are told at once that they are, though they may not be. Faster, and
    /// safe, because a step that the machine's end cuts short is started anew.
    pub fast_sync: bool,
    /// The control group below which steps get theirs; absolute in the hierarchy.
    pub cgroup_parent: PathBuf,
    /// Which system calls steps may make.
    pub seccomp: Seccomp,
}

/// Which system calls steps may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// All of them, as with OBuilder: what steps may not do, their missing capabilities prevent.
    #[default]
    Open,
    /// Those that concern the machine rather than a build (modules, clocks, mounts, namespaces, tracing, keys) fail with `EPERM`.
    Guarded,
}

impl FromStr for Seccomp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "guarded" => Ok(Self::Guarded),
            _ => Err("expected \"open\" or \"guarded\""),
        }
    }
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Guarded => "guarded",
        })
    }
}

impl RuncConfig {
    /// `runc` as found in `PATH`, with its state in `state`.
    #[must_use]
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            runtime: PathBuf::from("runc"),
            state: state.into(),
            fast_sync: false,
            cgroup_parent: PathBuf::from("/"),
            seccomp: Seccomp::Open,
        }
    }
}
