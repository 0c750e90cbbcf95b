//! What runs a job: one executor for each kind of action.

mod contract;
mod dispatch;
pub mod docker;
mod test_kind;

pub use contract::{Cause, Execution, Executor, Failure, JobContext, JobLog, Outcome};
pub use dispatch::Executors;
pub use docker::{DockerConfig, DockerExecutor, EngineAddress, Pull};
pub use test_kind::TestExecutor;
