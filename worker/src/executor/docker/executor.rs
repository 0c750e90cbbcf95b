//! The Docker executor: from a job's description to its outcome.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ocluster_api::{Action, DockerBuild};
use tracing::debug;

use super::buildkit::{Buildkit, Secrets};
use super::classic::Classic;
use super::config::DockerConfig;
use super::dockerfile;
use super::engine::{self, EngineHealth};
use super::ignore::Rules;
use super::images::{ImageNames, JobTags};
use super::logins::Logins;
use super::push;
use super::started::Started;
use crate::executor::{Executor, Failure, JobContext, Outcome};
use crate::metrics::Metrics;

/// Runs Docker builds.
#[derive(Clone, Debug)]
pub struct DockerExecutor {
    config: DockerConfig,
    names: Arc<ImageNames>,
    metrics: Metrics,
}

impl DockerExecutor {
    /// An executor that uses the engine of `config`. The engine need not run yet.
    #[must_use]
    pub fn new(config: DockerConfig) -> Self {
        Self {
            names: ImageNames::new(config.worker.as_ref()),
            metrics: Metrics::default(),
            config,
        }
    }

    /// Has it count in `metrics`.
    #[must_use]
    pub fn counting_in(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// How it was set up.
    #[must_use]
    pub fn config(&self) -> &DockerConfig {
        &self.config
    }

    /// Asks the engine whether it is there. Takes at most twice the configured answer time.
    ///
    /// # Errors
    /// [`Cause::Engine`](crate::executor::Cause::Engine), with a sentence that names the engine and says what to do.
    pub async fn health(&self) -> Result<EngineHealth, Failure> {
        engine::health(&engine::connect(&self.config)?, &self.config.engine).await
    }

    /// Removes the names that this worker gave to images of jobs, and could not remove because it was killed. If the engine is away,
    /// that is done before the next push.
    pub async fn remove_leftover_names(&self) {
        let removed = match engine::connect(&self.config) {
            Ok(docker) => self.names.remove_leftovers(&docker).await,
            Err(_) => return,
        };
        if let Err(error) = removed {
            let error = engine::reason(&error);
            debug!(error, "cannot look for names of images that were left over");
        }
    }

    async fn run(
        &self,
        job: JobContext<'_>,
        started: &mut Started,
        tags: &mut JobTags,
    ) -> Result<String, Failure> {
        let Action::Docker(build) = &job.spec.action else {
            return Err(Failure::request(
                "only Docker builds can be run by the Docker engine",
            ));
        };
        push::check_allowed(&self.config.push, build)?;
        let image = self.build(job, build, started, tags).await?;
        push::deliver(&self.config, &self.metrics, job, build, &image, tags).await
    }

    /// Builds with the builder that the job asks for, and gives the image's id: `sha256:` and 64 digits.
    async fn build(
        &self,
        job: JobContext<'_>,
        build: &DockerBuild,
        started: &mut Started,
        tags: &mut JobTags,
    ) -> Result<String, Failure> {
        self.refuse_what_cannot_be(job, build)?;
        let secrets = Secrets::new(&job.spec.secrets)?;
        let (path, rules) = prepare(job, build).await?;
        let docker = engine::connect(&self.config)?;
        let health = engine::health(&docker, &self.config.engine).await?;
        let config = &self.config;
        let logins = Logins::read(config.logins.as_deref()).await;
        let dockerfile = &path;
        // What is to be pushed must not be pruned before it is.
        let reserve = |tags: &mut JobTags| {
            let push = build.push.as_ref()?;
            Some(tags.reserve(&docker, &push.target))
        };
        if build.buildkit {
            let buildkit = Buildkit {
                config,
                build,
                dockerfile,
                name: reserve(tags),
                rules,
                secrets,
                logins,
            };
            return buildkit.run(job, &mut started.buildkit).await;
        }
        if build.squash && !health.experimental {
            return Err(Failure::request(
                "this worker's Docker engine cannot squash layers: submit the job without squash, \
                 or enable the engine's experimental features",
            ));
        }
        let classic = Classic {
            config,
            build,
            dockerfile,
            name: reserve(tags),
            logins: &logins,
        };
        classic.run(job, docker, rules, &mut started.classic).await
    }

    /// Refuses what neither builder could do, before anything is done.
    fn refuse_what_cannot_be(
        &self,
        job: JobContext<'_>,
        build: &DockerBuild,
    ) -> Result<(), Failure> {
        if !build.buildkit {
            return if job.spec.secrets.is_empty() {
                Ok(())
            } else {
                Err(Failure::request(
                    "this job has secrets, which only BuildKit can give to build steps: submit it with --buildkit",
                ))
            };
        }
        if build.squash {
            return Err(Failure::request(
                "BuildKit cannot squash layers: submit the job without --squash, or without --buildkit",
            ));
        }
        match &self.config.limits.network {
            Some(network) if !network.is_known_to_buildkit() => Err(Failure::request(format!(
                "this worker runs build steps in the network \"{network}\", which BuildKit cannot: submit the job without --buildkit"
            ))),
            _ => Ok(()),
        }
    }
}

impl Executor for DockerExecutor {
    fn execute<'a>(
        &'a self,
        job: JobContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let mut started = Started::default();
            let mut tags = self.names.of_job();
            let outcome = match job
                .cancel
                .run_until_cancelled(self.run(job, &mut started, &mut tags))
                .await
            {
                Some(Ok(output)) => Outcome::Succeeded { output },
                Some(Err(failure)) => failure.into(),
                None => {
                    started.wait_until_gone().await;
                    Outcome::Cancelled
                }
            };
            tags.release().await;
            outcome
        })
    }
}

/// Looks at the context, which takes as long as the disk takes, apart from the threads that others wait on.
async fn prepare(job: JobContext<'_>, build: &DockerBuild) -> Result<(String, Rules), Failure> {
    let (context, dockerfile) = (job.context.to_owned(), build.dockerfile.clone());
    let rules_of = if build.buildkit {
        Rules::of_buildkit_context
    } else {
        Rules::of_context
    };
    let prepared = tokio::task::spawn_blocking(move || {
        let path = dockerfile::prepare(&context, &dockerfile)?;
        let rules = rules_of(&context, &path).map_err(Failure::request)?;
        Ok((path, rules))
    });
    prepared.await.unwrap_or_else(|error| {
        Err(Failure::setup(format!(
            "cannot prepare the build context: {error}"
        )))
    })
}
