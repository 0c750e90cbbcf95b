//! One build: its session, its request, and how it ends.
//!
//! The build lives as long as its request. To cancel it, the engine is asked to, and its last word is waited for, so that the step
//! that runs has been killed when the job ends.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use ocluster_api::DockerBuild;
use tokio_util::sync::DropGuard;
use tracing::warn;

use super::answer::{Answer, AnswerError, Message};
use super::connection;
use super::file_sync::Context;
use super::progress::Progress;
use super::secrets::Secrets;
use super::session::{Served, Session, SessionError};
use crate::executor::docker::build_args;
use crate::executor::docker::config::{DockerConfig, EngineAddress, Pull};
use crate::executor::docker::engine;
use crate::executor::docker::ignore::Rules;
use crate::executor::docker::images;
use crate::executor::docker::logins::Logins;
use crate::executor::{Cause, Failure, JobContext};

/// What to build, and how.
#[derive(Debug)]
pub(in crate::executor::docker) struct Buildkit<'a> {
    pub(in crate::executor::docker) config: &'a DockerConfig,
    pub(in crate::executor::docker) build: &'a DockerBuild,
    /// The Dockerfile's path inside the context.
    pub(in crate::executor::docker) dockerfile: &'a str,
    /// The name that the image gets, if any.
    pub(in crate::executor::docker) name: Option<String>,
    /// What is not sent.
    pub(in crate::executor::docker) rules: Rules,
    /// What steps may ask for.
    pub(in crate::executor::docker) secrets: Secrets,
    /// How to log in to the registries of base images.
    pub(in crate::executor::docker) logins: Logins,
}

/// A build that the engine runs.
#[derive(Debug)]
pub(in crate::executor::docker) struct Running {
    engine: EngineAddress,
    limit: Duration,
    id: String,
    served: Arc<Served>,
    _abandon: DropGuard,
    _session: Session,
    answer: Option<Answer>,
}

impl Buildkit<'_> {
    /// Builds, and gives the image's id. As long as the build runs, it is in `running`.
    pub(in crate::executor::docker) async fn run(
        self,
        job: JobContext<'_>,
        running: &mut Option<Running>,
    ) -> Result<String, Failure> {
        if let Some(note) = self.config.limits.not_enforced_by_buildkit() {
            job.log.line(note).await;
        }
        for note in self.secrets.notes() {
            job.log.line(note).await;
        }
        let engine = &self.config.engine;
        let limit = self.config.answer_timeout;
        let id = format!("ocluster-{:032x}", rand::random::<u128>());
        let path = self.path(&id)?;
        let served = Arc::new(Served {
            context: Context::new(job.context, self.rules, self.dockerfile),
            secrets: self.secrets,
            logins: self.logins,
        });
        let session = Session::open(engine, limit, &id, Arc::clone(&served))
            .await
            .map_err(|error| match error {
                SessionError::Away(reason) => engine::lost(engine, &reason),
                SessionError::NotOffered(status) => Failure::request(format!(
                    "this worker's Docker engine does not offer BuildKit ({status}): submit the job without --buildkit"
                )),
            })?;
        let build = running.insert(Running {
            _abandon: served.context.abandon(),
            engine: engine.clone(),
            limit,
            id,
            served,
            _session: session,
            answer: None,
        });
        let image = build.follow(job, &path).await;
        // It has ended by itself: nothing is left to cancel.
        *running = None;
        image
    }

    fn path(&self, id: &str) -> Result<String, Failure> {
        // BuildKit is given the Dockerfile's directory apart from the context, and so its bare name.
        let name = self
            .dockerfile
            .rsplit('/')
            .next()
            .unwrap_or(self.dockerfile);
        let pull = match self.config.pull {
            Pull::Always => "&pull=1",
            Pull::Missing => "",
        };
        let tag = match &self.name {
            Some(name) => format!("&t={}", build_args::encode(name)),
            None => String::new(),
        };
        Ok(format!(
            "/build?version=2&remote=client-session&session={id}&buildid={id}&dockerfile={}{pull}{tag}{}{}{}",
            build_args::encode(name),
            build_args::parameter(&self.build.build_args)?,
            self.config.limits.network_parameter(),
            images::label_parameter(),
        ))
    }
}

impl Running {
    async fn follow(&mut self, job: JobContext<'_>, path: &str) -> Result<String, Failure> {
        let request = connection::post(path)
            .body(Empty::new())
            .map_err(|error| Failure::setup(format!("cannot ask for the build: {error}")))?;
        let answered = connection::send(&self.engine, self.limit, request)
            .await
            .map_err(|reason| engine::lost(&self.engine, &reason))?;
        let answer = self.answer.insert(Answer::new(answered));
        let mut progress = Progress::default();
        let mut image = None;
        loop {
            let error = match answer.next().await {
                Ok(None) => break,
                Ok(Some(Message::Progress(status))) => {
                    job.log.write(progress.show(&status)).await;
                    continue;
                }
                Ok(Some(Message::Text(text))) => {
                    job.log.write(text).await;
                    continue;
                }
                Ok(Some(Message::Image(id))) => {
                    image = Some(id);
                    continue;
                }
                Ok(Some(Message::Failed(error))) => (Cause::Build, error),
                Err(AnswerError::Refused { status, message }) => {
                    let cause = if status.is_client_error() {
                        Cause::Request
                    } else {
                        Cause::Build
                    };
                    (cause, format!("Error response from daemon: {message}"))
                }
                Err(AnswerError::Broken(reason)) => {
                    return Err(match self.served.context.trouble() {
                        Some(trouble) => trouble.clone(),
                        None => engine::lost(&self.engine, &reason),
                    });
                }
            };
            return Err(self.explain(job, error).await);
        }
        image.ok_or_else(|| {
            engine::lost(&self.engine, "it ended its answer without naming an image")
        })
    }

    /// Writes the engine's words to the log, and finds out whose fault it was.
    async fn explain(&self, job: JobContext<'_>, (cause, error): (Cause, String)) -> Failure {
        if let Some(trouble) = self.served.context.trouble() {
            return trouble.clone();
        }
        job.log.line(&error).await;
        if was_cancelled(&error) {
            return engine::lost(&self.engine, "it cancelled the build");
        }
        // Docker's command ends with one, whatever a step's exit code was.
        let message = "docker-build failed with exit-code 1".to_owned();
        engine::failed_build(cause, &error, message)
    }

    /// Ends the build, and waits until the engine says that it has ended.
    pub(in crate::executor::docker) async fn cancel(self) {
        if tokio::time::timeout(engine::REMOVAL_LIMIT, self.end())
            .await
            .is_err()
        {
            warn!("the engine has not ended a cancelled build yet");
        }
    }

    async fn end(mut self) {
        let request = connection::post(&format!("/build/cancel?id={}", self.id)).body(Empty::new());
        let Ok(request) = request else {
            return;
        };
        match connection::send(&self.engine, self.limit, request).await {
            Ok(answered) if answered.response.status().is_success() => {}
            Ok(answered) => {
                let status = answered.response.status();
                warn!(%status, "the engine does not cancel a build");
                return;
            }
            Err(reason) => {
                warn!(reason, "cannot tell the engine to cancel a build");
                return;
            }
        }
        if let Some(answer) = &mut self.answer {
            while let Ok(Some(_)) = answer.next().await {}
        }
    }
}

/// Whether a build ended because somebody cancelled it. We do not wait for that word ourselves: so it is the engine, going down.
fn was_cancelled(error: &str) -> bool {
    let error = error.trim_end();
    ["context canceled", "Canceled", "graceful shutdown"]
        .iter()
        .any(|reason| {
            engine::gives_reason(error, reason) || error.strip_suffix(reason).is_some_and(is_step)
        })
}

/// Whether an error up to its reason is what BuildKit says of a step that has run: nothing that the step's command says comes after
/// it then.
fn is_step(before: &str) -> bool {
    let mut before = before;
    while let Some(rest) = ["failed to solve: ", "rpc error: code = Unknown desc = "]
        .iter()
        .find_map(|prefix| before.strip_prefix(prefix))
    {
        before = rest;
    }
    [
        ("executor failed running [", "]: "),
        ("process \"", "\" did not complete successfully: "),
    ]
    .iter()
    .any(|(start, end)| before.starts_with(start) && before.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_the_engine_cancels_is_told_from_one_that_speaks_of_it() {
        for error in [
            "context canceled",
            "Canceled",
            "failed to solve: Canceled: context canceled",
            "failed to solve: rpc error: code = Canceled desc = context canceled",
            "rpc error: code = Unavailable desc = graceful shutdown",
            "executor failed running [/bin/sh -c echo \"Canceled\"]: context canceled",
            "failed to solve: process \"/bin/sh -c 'x'\" did not complete successfully: context canceled\n",
        ] {
            assert!(was_cancelled(error), "{error}");
        }
        for error in [
            "failed to compute cache key: \"/Canceled\" not found",
            "dockerfile parse error line 2: unknown instruction Canceled",
            "Invalid signal: context canceled",
            "failed to process \"${x:?Canceled}\": x: Canceled",
            "failed to process \"${x:?executor failed running []: Canceled}\": x: executor failed running []: Canceled",
            "executor failed running [/bin/sh -c echo context canceled]: exit code: 1",
            "pull access denied for NotCanceled",
        ] {
            assert!(!was_cancelled(error), "{error}");
        }
    }
}
