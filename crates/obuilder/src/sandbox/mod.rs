//! Runs one command of a step in a tree of files, apart from everything else on the machine.

mod contract;

pub use contract::{
    CacheMount, Ended, Limits, Network, Running, Sandbox, SandboxError, SecretFile, Step,
};
