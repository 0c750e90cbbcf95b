//! The connection to the Docker engine: finding it, asking how it is, and seeing a cancelled build's containers go.
//!
//! Whatever goes wrong here is the engine's fault or the operator's, never the user's: sentences name the engine and say what to do.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::config::{DockerConfig, EngineAddress};
use crate::executor::{Cause, Failure};

/// For requests that may be silent for as long as they like: builds and pushes. What ends them is their own end, a cancel, a limit of
/// their own, or the connection's end.
pub(super) const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

/// How long a cancelled job waits for what it started to end. With a healthy engine that takes a fraction of a second.
pub(super) const REMOVAL_LIMIT: Duration = Duration::from_secs(3);

/// How an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineHealth {
    /// The engine's own version, such as `20.10.24`.
    pub version: String,
    /// The newest version of its API.
    pub api_version: String,
    /// Whether it offers what is experimental, such as squashing layers.
    pub experimental: bool,
}

/// Opens the way to the engine. The engine itself is first asked by [`health`].
pub(crate) fn connect(config: &DockerConfig) -> Result<Docker, Failure> {
    let seconds = config.answer_timeout.as_secs().max(1);
    match &config.engine {
        EngineAddress::Unix(path) => {
            Docker::connect_with_unix(&path.to_string_lossy(), seconds, API_DEFAULT_VERSION)
        }
        EngineAddress::Http(address) => {
            Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION)
        }
    }
    .map_err(|error| away(&config.engine, &error))
}

/// Asks the engine whether it is there and what it is.
pub(crate) async fn health(
    docker: &Docker,
    engine: &EngineAddress,
) -> Result<EngineHealth, Failure> {
    let explain = |error| away(engine, &error);
    docker.ping().await.map_err(explain)?;
    let version = docker.version().await.map_err(explain)?;
    Ok(EngineHealth {
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        experimental: version.experimental.unwrap_or(false),
    })
}

/// The engine did not answer at all.
pub(super) fn away(engine: &EngineAddress, error: &Error) -> Failure {
    Failure::engine(format!(
        "cannot reach the Docker engine at {engine}: {}; start it, or point the worker's DOCKER_HOST at the right one",
        reason(error)
    ))
}

/// The engine answered and then fell silent.
pub(super) fn lost(engine: &EngineAddress, reason: &str) -> Failure {
    Failure::engine(format!(
        "lost the Docker engine at {engine} during the build: {reason}; submit the job again once the engine runs"
    ))
}

/// A build that the engine ended with `error`, because of `cause` as far as the engine's answer tells.
pub(super) fn failed_build(cause: Cause, error: &str, message: String) -> Failure {
    // The user cannot help a full disk: the job may do better on another worker.
    let cause = if gives_reason(error, "no space left on device") {
        Cause::DiskFull
    } else {
        cause
    };
    Failure { cause, message }
}

/// What a message has in it that repeats words from outside the machine: a quoted instruction, a step's command, a value that is not
/// valid, or what a web server answered.
const REPEATING: [&str; 6] = ["\"", "'", "`", "[", "nvalid ", " with status "];

/// Whether the engine gives `reason` for its `error`, as the system's errors are given: at the very end, after a colon.
///
/// A user can have any words put into an error, and must not pass his mistakes off as the machine's. So a message that repeats words
/// of his gives no reason.
pub(super) fn gives_reason(error: &str, reason: &str) -> bool {
    let Some(before) = error.trim_end().strip_suffix(reason) else {
        return false;
    };
    (before.is_empty() || before.ends_with(": ") || before.ends_with(" desc = "))
        && !REPEATING.iter().any(|mark| before.contains(mark))
}

/// The innermost cause: what wraps it only repeats that an HTTP client failed.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::SocketNotFoundError(_) => return "its socket does not exist".to_owned(),
        Error::RequestTimeoutError => return "it does not answer in time".to_owned(),
        _ => {}
    }
    innermost(error)
}

/// What the error behind all others says.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Waits until the engine has removed `containers`, which it does by itself when a build's client goes away.
///
/// Their names come from the build's output, where a build step can write what it likes: so they are only asked for here, never
/// removed. A forged name costs the forger's own job a little time, and nobody else anything.
pub(super) async fn wait_until_removed(docker: &Docker, containers: &BTreeSet<String>) {
    let deadline = Instant::now() + REMOVAL_LIMIT;
    for container in containers {
        match timeout_at(deadline, gone(docker, container)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(
                    container,
                    error = reason(&error),
                    "cannot tell whether a cancelled build's container is gone"
                )
            }
            Err(_) => warn!(
                container,
                "the engine has not removed the container of a cancelled build yet"
            ),
        }
    }
}

async fn gone(docker: &Docker, container: &str) -> Result<(), Error> {
    loop {
        match docker.inspect_container(container, None).await {
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause_of(error: &str) -> Cause {
        failed_build(Cause::Build, error, String::new()).cause
    }

    #[test]
    fn a_full_disk_is_the_machine_s_fault() {
        for error in [
            "no space left on device",
            "write /var/lib/docker/tmp/x: no space left on device",
            "failed to register layer: Error processing tar file(exit status 1): write /big: no space left on device\n",
            "Error response from daemon: mkdir /var/lib/docker/x: no space left on device",
            "failed to copy files: copy file range failed: no space left on device",
            "failed to solve: rpc error: code = Unknown desc = no space left on device",
        ] {
            assert_eq!(cause_of(error), Cause::DiskFull, "{error}");
        }
    }

    #[test]
    fn words_of_the_user_do_not_make_it_the_machine_s_fault() {
        for error in [
            "COPY failed: no source files were specified: [\"no space left on device\",\"/\"]",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat no space left on device: file does not exist",
            "The command '/bin/sh -c echo no space left on device; false' returned a non-zero code: 1",
            "executor failed running [/bin/sh -c echo no space left on device]: exit code: 1",
            "failed to process \"${x:?no space left on device}\": x: no space left on device",
            "Invalid signal: no space left on device",
            "Invalid signal: write /x: no space left on device",
            "ADD failed: failed to GET http://h/x with status 404 Not Found: no space left on device",
            "stage no space left on device",
        ] {
            assert_eq!(cause_of(error), Cause::Build, "{error}");
        }
    }
}
