//! What runs a job: one executor for each kind of action.

mod contract;

pub use contract::{Cause, Executor, Failure, JobContext, JobLog, Outcome};
