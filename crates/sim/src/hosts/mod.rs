//! The programs on their simulated hosts.

mod auditor;
mod client;
mod scheduler;
mod site;
mod worker;

pub use auditor::{Audited, Auditor};
pub use client::ClientHost;
pub use scheduler::SchedulerHost;
pub use site::Site;
pub use worker::WorkerHost;
