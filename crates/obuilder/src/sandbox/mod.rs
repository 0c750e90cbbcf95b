//! Runs one command of a step in a tree of files, apart from everything else on the machine.

mod cgroup;
mod config;
mod contract;
mod enclosure;
mod failure;
mod leash;
mod machine;
mod oci;
mod output;
mod request;
mod runc;
mod runtime;
mod seccomp;
mod supervise;
mod sys;
mod users;

pub use config::{RuncConfig, Seccomp};
pub use contract::{
    CacheMount, Ended, Limits, Network, Running, Sandbox, SandboxError, SecretFile, Step,
};
pub use runc::RuncSandbox;
pub use users::{UserError, resolve};
