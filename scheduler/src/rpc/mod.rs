//! The interfaces that peers see: thin translations between the wire and the scheduler's state.
//!
//! A state change, once begun, completes even if the caller withdraws the call; only waiting stops. So every method here makes its
//! changes without waiting, or hands them to a task of their own.

mod admin;
mod caller;
mod describe;
mod durable_job;
mod job;
mod job_handle;
mod job_info;
mod pool_admin;
mod progress;
mod query;
mod queue;
mod registration;
mod submission;
mod ticket;
mod update;

pub(crate) use admin::{AdminServer, ClientAccess};
pub(crate) use job::JobServer;
pub(crate) use registration::{Liveness, RegistrationServer};
pub(crate) use submission::SubmissionServer;
