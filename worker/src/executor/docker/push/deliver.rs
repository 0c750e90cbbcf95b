//! From a built image to the job's result: nothing if it is not to be pushed, or else its name in the registry.

use std::fmt;

use bollard::Docker;
use bollard::errors::Error;
use futures::StreamExt as _;
use ocluster_api::{DockerBuild, Push};
use ocluster_cli::ocaml_string;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::config::PushConfig;
use super::credentials::Credentials;
use super::fault::{self, Fault};
use super::messages::{Messages, Said};
use super::request::post;
use super::retry::{Attempts, GaveUp, Next, Trouble};
use crate::executor::docker::config::DockerConfig;
use crate::executor::docker::engine;
use crate::executor::docker::images::JobTags;
use crate::executor::{Cause, Failure, JobContext};
use crate::metrics::Metrics;

/// Refuses a build whose push is not allowed, before anything is built for nothing.
///
/// # Errors
/// With OCluster's words, which tell the operator what to do.
pub(in crate::executor::docker) fn check_allowed(
    config: &PushConfig,
    build: &DockerBuild,
) -> Result<(), Failure> {
    match &build.push {
        Some(push) if !config.allows(push.target.repository()) => Err(Failure::request(format!(
            "To allow pushing to this repository, start the worker with --allow-push {}",
            quoted(push.target.repository())
        ))),
        _ => Ok(()),
    }
}

/// Pushes `image`, if that is wanted, and gives the job's output: `repository@sha256:...`, or nothing without a push.
///
/// What it names on the engine is noted in `tags`, which its caller must release in any case, also after dropping this future to
/// cancel. Dropping it hangs up on the engine, which stops pushing then.
///
/// # Errors
/// If the registry refuses, or stays away until the last attempt.
pub(in crate::executor::docker) async fn deliver(
    config: &DockerConfig,
    metrics: &Metrics,
    job: JobContext<'_>,
    build: &DockerBuild,
    image: &str,
    tags: &mut JobTags,
) -> Result<String, Failure> {
    let Some(push) = &build.push else {
        return Ok(String::new());
    };
    check_allowed(&config.push, build)?;
    let _timed = Timed(metrics, Instant::now());
    let delivery = Delivery {
        config,
        docker: engine::connect(config)?,
        job,
        push,
        image,
        credentials: Credentials::new(push.login.as_ref(), push.target.repository())?,
    };
    delivery.run(tags).await
}

/// Counts a push when it is over, however that came.
struct Timed<'a>(&'a Metrics, Instant);

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.0.pushed(self.1.elapsed());
    }
}

struct Delivery<'a> {
    config: &'a DockerConfig,
    docker: Docker,
    job: JobContext<'a>,
    push: &'a Push,
    image: &'a str,
    credentials: Credentials,
}

impl Delivery<'_> {
    async fn run(&self, tags: &mut JobTags) -> Result<String, Failure> {
        let mut announcement = format!(
            "Pushing {} to {}",
            quoted(self.image),
            quoted(&self.push.target)
        );
        if let Some(user) = self.credentials.user() {
            announcement.push_str(&format!(" as user {}", quoted(user)));
        }
        info!("{announcement}");
        self.job.log.line(announcement).await;
        let mut attempts = Attempts::new(self.config.push.retries);
        loop {
            let result = self.attempt(tags).await;
            match attempts.judge(result) {
                Ok(Next::Done(digest)) => {
                    return Ok(format!("{}@{digest}", self.push.target.repository()));
                }
                Ok(Next::Again(again)) => {
                    let line = self.credentials.hide(&format!("Push {again}"));
                    info!("{line}");
                    self.job.log.line(line).await;
                    again.wait().await;
                }
                Err(gave_up) => return Err(self.explain(&gave_up)),
            }
        }
    }

    fn explain(&self, gave_up: &GaveUp<Fault>) -> Failure {
        let message = if gave_up.error.complete {
            gave_up.to_string()
        } else {
            format!("Failed to push {}: {gave_up}", quoted(&self.push.target))
        };
        Failure {
            cause: gave_up.error.cause,
            message: self.credentials.hide(&message),
        }
    }

    /// Logs in, pushes and gives the digest.
    async fn attempt(&self, tags: &mut JobTags) -> Result<String, Trouble<Fault>> {
        let explain = |error| self.refused(&error);
        let keeping = tags.keep(&self.docker, self.image, &self.push.target);
        keeping.await.map_err(explain)?;
        self.check_login().await?;
        let lending = tags.lend(&self.docker, self.image, &self.push.target, self.job.log);
        lending.await.map_err(explain)?;
        let pushed = match self.push_once().await {
            Ok(digest) => self.confirm(digest).await,
            Err(trouble) => Err(trouble),
        };
        // Between two attempts others may use the name. What cannot be put right now is noted, and tried again at the job's end.
        let taken_back = tags.take_back(&self.docker).await;
        // The image is in the registry, whatever became of the name.
        if let (Ok(_), Err(error)) = (&pushed, &taken_back) {
            warn!(
                error = engine::reason(error),
                "cannot take back the name of an image that was pushed yet"
            );
        }
        pushed
    }

    /// Why the engine did not do what it was asked for.
    fn refused(&self, error: &Error) -> Trouble<Fault> {
        fault::of_request(&self.config.engine, error, &self.push.target)
    }

    /// Has the engine try the login, so that a wrong password is told from everything else.
    async fn check_login(&self) -> Result<(), Trouble<Fault>> {
        let Some(user) = self.credentials.user() else {
            return Ok(());
        };
        let docker = self.docker.clone().with_timeout(engine::NO_TIMEOUT);
        let mut answer = post(&docker, "/auth".to_owned(), None, self.credentials.body());
        let failed = |fault: Fault| {
            let message = format!("Failed to docker-login as {}: {fault}", quoted(user));
            Fault::complete(fault.cause, message)
        };
        while let Some(part) = self.next(&mut answer).await? {
            if let Err(error) = part {
                return Err(match self.refused(&error) {
                    Trouble::Fatal(fault) => Trouble::Fatal(failed(fault)),
                    Trouble::Retryable(fault) => Trouble::Retryable(failed(fault)),
                });
            }
        }
        Ok(())
    }

    /// Pushes, and gives the digest if the engine says one.
    async fn push_once(&self) -> Result<Option<String>, Trouble<Fault>> {
        let target = &self.push.target;
        let path = format!("/images/{}/push?tag={}", target.repository(), target.tag());
        let docker = self.docker.clone().with_timeout(engine::NO_TIMEOUT);
        let header = self.credentials.header();
        let mut answer = post(&docker, path, Some(header), bytes::Bytes::new());
        let mut messages = Messages::default();
        let mut digest = None;
        while let Some(part) = self.next(&mut answer).await? {
            let part = part.map_err(|error| self.refused(&error))?;
            let said = messages.read(&part).map_err(|_| {
                fault::of_engine(&self.config.engine, "its answer cannot be understood")
            })?;
            for said in said {
                match said {
                    Said::Line(line) => self.job.log.line(self.credentials.hide(&line)).await,
                    Said::Digest(pushed) => digest = Some(pushed),
                    Said::Failed(reason) => {
                        return Err(fault::of_registry(&reason, &self.push.target));
                    }
                }
            }
        }
        Ok(digest)
    }

    /// The next part of an answer, if that comes in time.
    async fn next<T>(
        &self,
        answer: &mut (impl futures::Stream<Item = T> + Unpin),
    ) -> Result<Option<T>, Trouble<Fault>> {
        let limit = self.config.push.silence_limit;
        timeout(limit, answer.next()).await.map_err(|_| {
            fault::passing(format!(
                "no progress for {} seconds",
                limit.as_secs_f64().round()
            ))
        })
    }

    /// Sees in the engine's own books that it was this job's image which went to the registry, and finds the digest there if the engine
    /// has not said it.
    async fn confirm(&self, said: Option<String>) -> Result<String, Trouble<Fault>> {
        let image = self.docker.inspect_image(self.image).await;
        let image = image.map_err(|error| self.refused(&error))?;
        let names = image.repo_digests.unwrap_or_default();
        let digests = || names.iter().filter_map(|name| name.split_once('@'));
        match said {
            Some(said) if names.is_empty() || digests().any(|(_, digest)| digest == said) => {
                Ok(said)
            }
            Some(_) => Err(fault::passing(
                "somebody else used the same name on this engine at the same time",
            )),
            None => digests()
                .find(|(repository, _)| *repository == self.push.target.repository())
                .map(|(_, digest)| digest.to_owned())
                .ok_or_else(|| {
                    Trouble::Fatal(Fault::complete(
                        Cause::Engine,
                        "Failed to read RepoDigests for newly-pushed image!",
                    ))
                }),
        }
    }
}

/// As OCluster's programs quote.
fn quoted(text: impl fmt::Display) -> String {
    ocaml_string(text.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use ocluster_api::{Action, Dockerfile, JobSpec};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::JobLog;
    use crate::executor::docker::config::EngineAddress;
    use crate::executor::docker::fake_engine::FakeEngine;
    use crate::executor::docker::images::ImageNames;

    #[tokio::test]
    async fn a_push_that_went_well_stays_one_if_the_name_cannot_be_taken_back() {
        static PUSHES: AtomicU32 = AtomicU32::new(0);
        let engine = FakeEngine::start(|request| {
            let (status, body) = match request {
                "GET /images/host/app:v1/json" => (404, r#"{"message":"No such image"}"#),
                "GET /images/sha256:new/json" => (200, r#"{"Id":"sha256:new"}"#),
                "POST /images/host/app/push?tag=v1" => {
                    PUSHES.fetch_add(1, Ordering::Relaxed);
                    (200, "{\"aux\":{\"Digest\":\"sha256:pushed\"}}\n")
                }
                request if request.starts_with("DELETE ") => (500, r#"{"message":"busy"}"#),
                _ => (201, ""),
            };
            (status, body.to_owned())
        });
        let mut config = DockerConfig {
            engine: EngineAddress::Unix(engine.socket()),
            ..DockerConfig::default()
        };
        config.push.allowed = ["host/app".parse().unwrap()].into();
        config.push.retries.times = 0;
        let build = DockerBuild {
            dockerfile: Dockerfile::Contents(String::new()),
            push: Some(Push {
                target: "host/app:v1".parse().unwrap(),
                login: None,
            }),
            build_args: vec![],
            squash: false,
            buildkit: false,
            include_git: false,
        };
        let spec = JobSpec {
            action: Action::Docker(build.clone()),
            cache_hint: String::new(),
            source: None,
            secrets: vec![],
        };
        let (log, _chunks) = JobLog::new(16);
        let job = JobContext {
            spec: &spec,
            context: std::path::Path::new(""),
            scratch: std::path::Path::new(""),
            log: &log,
            cancel: &CancellationToken::new(),
        };
        let mut tags = ImageNames::new(None).of_job();
        let metrics = Metrics::default();
        let delivered = deliver(&config, &metrics, job, &build, "sha256:new", &mut tags).await;
        assert_eq!(delivered.unwrap(), "host/app@sha256:pushed");
        assert_eq!(PUSHES.load(Ordering::Relaxed), 1);
    }
}
