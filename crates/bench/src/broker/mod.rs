//! The bare broker: the least that a program on this RPC stack can do and still be a scheduler to workers and clients. What a real
//! scheduler costs is compared with it.
//!
//! Jobs go first come, first served; `log`, `result` and `cancel` go straight from the client to the worker. There is no policy, no
//! record, no log on disk and no metric, and there must never be any: it is the limit line, not a scheduler to use.
//!
//! Layout: `hub` brings jobs and workers together, `rpc` are the objects that peers see, `run` starts it all.

mod hub;
mod rpc;
mod run;

pub use run::BrokerArgs;
