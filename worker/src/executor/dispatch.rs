//! Chooses the executor for a job by its action, and refuses what this worker does not offer.
//!
//! What a refusal says must tell the user that the job may do well elsewhere, in upstream's words where it has any.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ocluster_api::{Action, JobSpec, TEST_KIND};

use super::contract::{Executor, Failure, JobContext, Outcome};
use super::docker::DockerExecutor;
use super::obuilder::OBuilderExecutor;
use super::test_kind::TestExecutor;

/// The executors that a worker offers. A fresh one offers nothing.
#[derive(Clone, Default)]
pub struct Executors {
    /// Runs Docker builds.
    pub docker: Option<Arc<DockerExecutor>>,
    /// Runs OBuilder builds.
    pub obuilder: Option<Arc<OBuilderExecutor>>,
    /// Whether the custom kind [`TEST_KIND`] is offered. An executor in [`Executors::custom`] under that name comes before it.
    pub test_kind: bool,
    /// Executors of custom jobs, by kind.
    pub custom: BTreeMap<String, Arc<dyn Executor>>,
}

impl std::fmt::Debug for Executors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executors")
            .field("docker", &self.docker)
            .field("obuilder", &self.obuilder)
            .field("test_kind", &self.test_kind)
            .field("custom", &self.custom.keys())
            .finish()
    }
}

impl Executors {
    /// These, and an executor for custom jobs of the kind `kind`. It replaces any other for that kind.
    #[must_use]
    pub fn offering(mut self, kind: impl Into<String>, executor: impl Executor) -> Self {
        self.custom.insert(kind.into(), Arc::new(executor));
        self
    }

    fn choose(&self, action: &Action) -> Result<&dyn Executor, Failure> {
        match action {
            Action::Docker(_) => match &self.docker {
                Some(docker) => Ok(docker.as_ref()),
                None => Err(Failure::request(
                    "This worker is not configured for Docker builds!",
                )),
            },
            Action::OBuilder { .. } => match &self.obuilder {
                Some(obuilder) => Ok(obuilder.as_ref()),
                None => Err(Failure::request(
                    "This worker is not configured for use with OBuilder!",
                )),
            },
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

    /// Not for a job that will be refused.
    fn wants_directories(&self, job: &JobSpec) -> bool {
        self.choose(&job.action)
            .is_ok_and(|executor| executor.wants_directories(job))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ocluster_api::{CustomJob, DockerBuild, Dockerfile, JobSpec, TestStep, test_job};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::executor::{DockerConfig, EngineAddress, JobLog};

    async fn outcome(executors: &Executors, action: Action) -> Outcome {
        let spec = JobSpec {
            action,
            cache_hint: String::new(),
            source: None,
            secrets: vec![],
        };
        let (log, _reader) = JobLog::new(1);
        let nowhere = Path::new("/nonexistent");
        let cancel = CancellationToken::new();
        executors
            .execute(JobContext {
                spec: &spec,
                context: nowhere,
                scratch: nowhere,
                log: &log,
                cancel: &cancel,
            })
            .await
    }

    fn docker_build() -> Action {
        Action::Docker(DockerBuild {
            dockerfile: Dockerfile::Path("x".into()),
            push: None,
            build_args: vec![],
            squash: false,
            buildkit: false,
            include_git: false,
        })
    }

    fn custom(kind: &str) -> Action {
        Action::Custom(CustomJob {
            kind: kind.into(),
            ..test_job(&[TestStep::Exit(5)]).unwrap()
        })
    }

    #[tokio::test]
    async fn a_worker_that_offers_nothing_refuses_everything_clearly() {
        let nothing = Executors::default();
        let refusals = [
            (
                docker_build(),
                "This worker is not configured for Docker builds!",
            ),
            (
                Action::OBuilder { spec: "()".into() },
                "This worker is not configured for use with OBuilder!",
            ),
            (custom("test"), "Unsupported custom job"),
            (custom("nix"), "Unsupported custom job"),
        ];
        for (action, sentence) in refusals {
            assert_eq!(
                outcome(&nothing, action).await,
                Failure::request(sentence).into()
            );
        }
    }

    #[tokio::test]
    async fn each_action_finds_its_executor() {
        struct Nix;
        impl Executor for Nix {
            fn execute<'a>(
                &'a self,
                _: JobContext<'a>,
            ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
                Box::pin(std::future::ready(Outcome::Succeeded {
                    output: "built by nix".into(),
                }))
            }
        }
        let engine = EngineAddress::Unix("/nonexistent/docker.sock".into());
        let executors = Executors {
            docker: Some(Arc::new(DockerExecutor::new(DockerConfig {
                engine,
                ..Default::default()
            }))),
            test_kind: true,
            ..Executors::default()
        }
        .offering("nix", Nix);
        assert_eq!(
            outcome(&executors, docker_build()).await,
            Failure::request("\"x\" does not exist (in x)").into()
        );
        assert_eq!(
            outcome(&executors, custom("test")).await,
            Failure::build("test job exited with code 5").into()
        );
        assert_eq!(
            outcome(&executors, custom("nix")).await,
            Outcome::Succeeded {
                output: "built by nix".into()
            }
        );
        assert_eq!(
            outcome(&executors, custom("other")).await,
            Failure::request("Unsupported custom job").into()
        );
    }
}
