//! Chooses the executor for a job by its action, and refuses what this worker does not offer.
//!
//! What a refusal says must tell the user that the job may do well elsewhere, in upstream's words where it has any.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ocluster_api::{Action, TEST_KIND};

use super::contract::{Executor, Failure, JobContext, Outcome};
use super::docker::DockerExecutor;
use super::test_kind::TestExecutor;

/// The executors that a worker offers. A fresh one offers nothing.
#[derive(Clone, Default)]
pub struct Executors {
    /// Runs Docker builds.
    pub docker: Option<Arc<DockerExecutor>>,
    /// Whether the custom kind [`TEST_KIND`] is offered. An executor in [`Executors::custom`] under that name comes before it.
    pub test_kind: bool,
    /// Executors of custom jobs, by kind.
    pub custom: BTreeMap<String, Arc<dyn Executor>>,
}

impl std::fmt::Debug for Executors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executors")
            .field("docker", &self.docker)
            .field("test_kind", &self.test_kind)
            .field("custom", &self.custom.keys())
            .finish()
    }
}

impl Executors {
    fn choose(&self, action: &Action) -> Result<&dyn Executor, Failure> {
        match action {
            Action::Docker(_) => match &self.docker {
                Some(docker) => Ok(docker.as_ref()),
                None => Err(Failure::request(
                    "This worker is not configured for Docker builds!",
                )),
            },
            Action::OBuilder { .. } => Err(Failure::request(
                "This worker is not configured for use with OBuilder!",
            )),
            Action::Custom(job) => match self.custom.get(&job.kind) {
                Some(executor) => Ok(executor.as_ref()),
                None if self.test_kind && job.kind == TEST_KIND => Ok(&TestExecutor),
                None => Err(Failure::request("Unsupported custom job")),
            },
        }
    }
}

impl Executor for Executors {
    fn execute<'a>(
        &'a self,
        job: JobContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        match self.choose(&job.spec.action) {
            Ok(executor) => executor.execute(job),
            Err(failure) => Box::pin(std::future::ready(failure.into())),
        }
    }
}
