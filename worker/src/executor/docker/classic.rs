//! A build with the engine's classic builder.
//!
//! The build lives exactly as long as its HTTP request. Dropping the request makes the engine kill and remove the step that runs;
//! after a cancel [`Started::wait_until_gone`] waits until that has been done.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bollard::errors::Error;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder, BuilderVersion};
use bollard::{Docker, body_try_stream};
use futures::StreamExt;
use hyper::header::{HeaderName, HeaderValue};
use ocluster_api::DockerBuild;

use super::build_args;
use super::config::{DockerConfig, Pull};
use super::context::{self, Sending};
use super::display;
use super::engine;
use super::ignore::Rules;
use super::images::BUILT_BY;
use super::logins::Logins;
use crate::executor::{Cause, Failure, JobContext};

/// The header of a build with the logins for its base images.
const LOGINS: HeaderName = HeaderName::from_static("x-registry-config");
/// How many containers of one build are watched; the engine runs one at a time.
const MAX_WATCHED: usize = 16;
/// How engine 20.10 says that an image of its cache went away between being found and being used. No user can make an error begin so.
const LOST_IN_CACHE: [&str; 2] = [
    "unable to find image \"sha256:",
    "failed to set parent sha256:",
];
/// How often a build is begun if the engine loses its way in its own cache.
const MAX_ATTEMPTS: u32 = 5;

/// What a build has started, for the case that it is cancelled.
#[derive(Default)]
pub(super) struct Started {
    docker: Option<Docker>,
    sending: Option<Sending>,
    containers: BTreeSet<String>,
}

/// How an attempt to build ended without an image.
enum End {
    Failed(Failure),
    /// In one of the ways of [`LOST_IN_CACHE`].
    LostInCache,
}

/// What to build, and how.
pub(super) struct Classic<'a> {
    pub(super) config: &'a DockerConfig,
    pub(super) build: &'a DockerBuild,
    /// The Dockerfile's path inside the context.
    pub(super) dockerfile: &'a str,
    /// The name that the image gets, if any.
    pub(super) name: Option<String>,
    /// How to log in to the registries of base images.
    pub(super) logins: &'a Logins,
}

impl Classic<'_> {
    /// Builds, and gives the image's id.
    ///
    /// The engine looks for a step's result among images that others may be removing, and then fails the build instead of running the
    /// step. Nobody is to blame for that but the engine, and what was built so far is in its cache: the build is begun again.
    pub(super) async fn run(
        &self,
        job: JobContext<'_>,
        docker: Docker,
        rules: Rules,
        started: &mut Started,
    ) -> Result<String, Failure> {
        let docker = started.docker.insert(docker).clone();
        let parameters = build_args::parameter(&self.build.build_args)?
            + &self.config.limits.classic_parameters();
        let logins = self.logins.header().await;
        let docker = with_additions(docker.with_timeout(engine::NO_TIMEOUT), parameters, logins);
        let rules = Arc::new(rules);
        for _ in 0..MAX_ATTEMPTS {
            match self.attempt(job, &docker, &rules, started).await {
                Ok(image) => return Ok(image),
                Err(End::Failed(failure)) => return Err(failure),
                Err(End::LostInCache) => {
                    let again = "The engine's cache changed while it was read: building again.";
                    job.log.line(again).await;
                }
            }
        }
        Err(Failure::engine(format!(
            "the Docker engine lost its way in its own cache {MAX_ATTEMPTS} times: others remove images all the time"
        )))
    }

    async fn attempt(
        &self,
        job: JobContext<'_>,
        docker: &Docker,
        rules: &Arc<Rules>,
        started: &mut Started,
    ) -> Result<String, End> {
        let (sending, tar) = context::send(job.context.to_owned(), Arc::clone(rules));
        let sending = started.sending.insert(sending);
        let mut answer =
            std::pin::pin!(docker.build_image(self.options(), None, Some(body_try_stream(tar))));
        let mut progress = Progress {
            announced: false,
            image: None,
            // The name is for this worker's own use, and gone when the job has ended.
            unsaid: self
                .name
                .as_ref()
                .map(|name| format!("Successfully tagged {name}\n")),
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
            End::Failed(engine::lost(
                &self.config.engine,
                "it ended its answer without naming an image",
            ))
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
        let options = match &self.name {
            Some(name) => options.t(name),
            None => options,
        };
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
    ) -> End {
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
                    return End::Failed(Failure::setup(reason));
                }
                let reason = engine::reason(&error);
                return End::Failed(engine::lost(&self.config.engine, &reason));
            }
        };
        job.log.line(&message).await;
        if LOST_IN_CACHE.iter().any(|lost| message.starts_with(lost)) {
            return End::LostInCache;
        }
        let exit = display::exit_message(&message);
        End::Failed(engine::failed_build(cause, &message, exit))
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
    /// What the engine says that is not for the log.
    unsaid: Option<String>,
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
        if let Some(text) = display::display(message)
            && self.unsaid.as_ref() != Some(&text)
        {
            job.log.write(text).await;
        }
    }
}

/// Adds `parameters` to each request of `docker`, and `logins` as a header: the client library knows no nulls among build arguments, no
/// large numbers, and writes logins in an alphabet that engines do not read.
fn with_additions(docker: Docker, parameters: String, logins: Option<String>) -> Docker {
    let logins = logins.and_then(|logins| {
        let mut logins = HeaderValue::try_from(logins).ok()?;
        logins.set_sensitive(true);
        Some(logins)
    });
    if parameters.is_empty() && logins.is_none() {
        return docker;
    }
    docker.with_request_modifier(move |mut request| {
        if let Ok(uri) = format!("{}{parameters}", request.uri()).parse() {
            *request.uri_mut() = uri;
        }
        if let Some(logins) = &logins {
            let headers = request.headers_mut();
            headers.insert(LOGINS, logins.clone());
        }
        request
    })
}

/// The client library wants more after a last line end that arrives apart from its message. Nothing is missing then; whether the
/// build ended well is told by the image's name.
fn is_late_line_end(error: &Error) -> bool {
    matches!(error, Error::IOError { err } if err.to_string() == "bytes remaining on stream")
}

#[cfg(test)]
mod tests {
    use ocluster_api::Dockerfile;

    use super::*;

    #[test]
    fn the_engine_is_told_the_name_that_keeps_the_image() {
        let build = DockerBuild {
            dockerfile: Dockerfile::Path("Dockerfile".to_owned()),
            push: None,
            build_args: Vec::new(),
            squash: false,
            buildkit: false,
            include_git: false,
        };
        for name in [None, Some("ocluster-build:worker-x.1-0")] {
            let classic = Classic {
                config: &DockerConfig::default(),
                build: &build,
                dockerfile: "Dockerfile",
                name: name.map(str::to_owned),
                logins: &Logins::default(),
            };
            assert_eq!(classic.options().t.as_deref(), name);
        }
    }
}
