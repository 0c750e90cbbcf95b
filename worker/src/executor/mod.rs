//! What runs a job: one executor for each kind of action.

mod contract;
mod dispatch;
pub mod docker;
pub mod obuilder;
mod test_kind;

pub use contract::{Cause, Execution, Executor, Failure, JobContext, JobLog, Outcome};
pub use dispatch::Executors;
pub use docker::{DockerConfig, DockerExecutor, EngineAddress, Pull};
pub use obuilder::{OBuilderConfig, OBuilderExecutor, PruneRules};
pub use test_kind::TestExecutor;
