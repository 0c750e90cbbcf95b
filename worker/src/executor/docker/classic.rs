//! A build with the engine's classic builder.
//!
//! The build lives exactly as long as its HTTP request. Dropping the request makes the engine kill and remove the step that runs;
//! after a cancel [`Started::wait_until_gone`] waits until that has been done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use bollard::{Docker, body_try_stream};
use futures::StreamExt;
use ocluster_api::DockerBuild;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::config::{DockerConfig, Pull};
use super::context::{self, Sending};
use super::display;
use super::engine;
use super::ignore::Rules;
use super::images::BUILT_BY;
use crate::executor::{Cause, Failure, JobContext};

/// A build may be silent for as long as it likes: what ends it is its own end, a cancel, or the connection's.
const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);
/// How many containers of one build are watched; the engine runs one at a time.
const MAX_WATCHED: usize = 16;

/// What a build has started, for the case that it is cancelled.
#[derive(Default)]
pub(super) struct Started {
    docker: Option<Docker>,
    sending: Option<Sending>,
    containers: BTreeSet<String>,
}

/// What to build, and how.
pub(super) struct Classic<'a> {
    pub(super) config: &'a DockerConfig,
    pub(super) build: &'a DockerBuild,
    /// The Dockerfile's path inside the context.
    pub(super) dockerfile: &'a str,
}

impl Classic<'_> {
    /// Builds, and gives the image's id.
    pub(super) async fn run(
        &self,
        job: JobContext<'_>,
        docker: Docker,
        rules: Rules,
        started: &mut Started,
    ) -> Result<String, Failure> {
        let docker = started.docker.insert(docker).clone();
        let docker = with_build_args(docker.with_timeout(NO_TIMEOUT), &self.build.build_args);
        let (sending, tar) = context::send(job.context.to_owned(), rules);
        let sending = started.sending.insert(sending);
        let mut answer =
            std::pin::pin!(docker.build_image(self.options(), None, Some(body_try_stream(tar))));
        let mut progress = Progress {
            announced: false,
            image: None,
            containers: &mut started.containers,
        };
        while let Some(message) = answer.next().await {
            match message {
                Ok(message) => progress.show(job, sending, &message).await,
                Err(error) if is_late_line_end(&error) => break,
                Err(error) => return Err(self.explain(job, sending, &mut progress, error).await),
            }
        }
        progress.image.ok_or_else(|| {
            engine::lost(
                &self.config.engine,
                "it ended its answer without naming an image",
            )
        })
    }

    fn options(&self) -> BuildImageOptions {
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(self.dockerfile)
            .rm(true)
            .forcerm(true)
            .squash(self.build.squash)
            .labels(&HashMap::from([BUILT_BY]))
            .version(BuilderVersion::BuilderV1);
        match self.config.pull {
            Pull::Always => options.pull("1"),
            Pull::Missing => options,
        }
        .build()
    }

    /// Writes the engine's words to the log, where there are any, and finds out whose fault it was.
    async fn explain(
        &self,
        job: JobContext<'_>,
        sending: &mut Sending,
        progress: &mut Progress<'_>,
        error: Error,
    ) -> Failure {
        let (cause, message) = match error {
            Error::DockerStreamError { error } => (Cause::Build, error),
            Error::DockerResponseServerError {
                status_code,
                message,
            } => {
                progress.announce(job, sending).await;
                let cause = if (400..500).contains(&status_code) {
                    Cause::Request
                } else {
                    Cause::Build
                };
                (cause, format!("Error response from daemon: {message}"))
            }
            error => {
                // The connection broke. If that is because our side of it failed, then the engine is not to blame.
                if let Ok(Err(reason)) = (&mut sending.thread).await
                    && !reason.ends_with(
                        &std::io::Error::from(std::io::ErrorKind::BrokenPipe).to_string(),
                    )
                {
                    return Failure::setup(reason);
                }
                return engine::lost(&self.config.engine, &engine::reason(&error));
            }
        };
        job.log.line(&message).await;
        // The user cannot help a full disk: the job may do better on another worker.
        let cause = if message.contains("no space left on device") {
            Cause::Engine
        } else {
            cause
        };
        Failure {
            cause,
            message: display::exit_message(&message),
        }
    }
}

impl Started {
    /// After a cancel: waits until what was started has ended.
    pub(super) async fn wait_until_gone(self) {
        if let Some(sending) = self.sending {
            // The thread stops at its next chunk. How it ends no longer matters.
            drop(sending.abandon);
            let _ = tokio::time::timeout(engine::REMOVAL_LIMIT, sending.thread).await;
        }
        if let Some(docker) = self.docker {
            engine::wait_until_removed(&docker, &self.containers).await;
        }
    }
}

struct Progress<'a> {
    announced: bool,
    image: Option<String>,
    containers: &'a mut BTreeSet<String>,
}

impl Progress<'_> {
    /// Writes the first line of the log. The engine answers only when it has the whole context.
    async fn announce(&mut self, job: JobContext<'_>, sending: &Sending) {
        if !std::mem::replace(&mut self.announced, true) {
            job.log.write(display::context_sent(sending.sent())).await;
        }
    }

    async fn show(&mut self, job: JobContext<'_>, sending: &Sending, message: &BuildInfo) {
        self.announce(job, sending).await;
        if let Some(container) = display::started_container(message)
            && self.containers.len() < MAX_WATCHED
        {
            self.containers.insert(container.to_owned());
        }
        if let Some(container) = display::removed_container(message) {
            self.containers.remove(container);
        }
        if let Some(image) = message.aux.as_ref().and_then(|aux| aux.id.clone()) {
            self.image = Some(image);
        }
        if let Some(text) = display::display(message) {
            job.log.write(text).await;
        }
    }
}

/// Adds build arguments to each request of `docker`.
///
/// A name without a value takes the worker's own, as the Docker command line does, and is sent as null if there is none. The client
/// library knows no nulls, and so the parameter is added here.
fn with_build_args(docker: Docker, arguments: &[String]) -> Docker {
    if arguments.is_empty() {
        return docker;
    }
    let json = build_args_json(arguments, |name| std::env::var(name).ok());
    let parameter = format!(
        "&buildargs={}",
        utf8_percent_encode(&json, NON_ALPHANUMERIC)
    );
    docker.with_request_modifier(move |mut request| {
        if let Ok(uri) = format!("{}{parameter}", request.uri()).parse() {
            *request.uri_mut() = uri;
        }
        request
    })
}

fn build_args_json(arguments: &[String], environment: impl Fn(&str) -> Option<String>) -> String {
    let values: BTreeMap<&str, Option<String>> = arguments
        .iter()
        .map(|argument| match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), environment(argument)),
        })
        .collect();
    serde_json::json!(values).to_string()
}

/// The client library wants more after a last line end that arrives apart from its message. Nothing is missing then; whether the
/// build ended well is told by the image's name.
fn is_late_line_end(error: &Error) -> bool {
    matches!(error, Error::IOError { err } if err.to_string() == "bytes remaining on stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_arguments_take_their_values_as_the_docker_command_does() {
        let arguments = ["A=1", "B=x=y", "EMPTY=", "FROM_ENV", "UNSET", "A=2"].map(str::to_owned);
        let json = build_args_json(&arguments, |name| {
            (name == "FROM_ENV").then(|| "worker's".to_owned())
        });
        assert_eq!(
            json,
            r#"{"A":"2","B":"x=y","EMPTY":"","FROM_ENV":"worker's","UNSET":null}"#
        );
    }
}
