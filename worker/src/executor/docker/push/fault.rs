//! What went wrong in an attempt to push, whose fault it is, and whether another attempt may go better.
//!
//! The engine passes on what registries and the network say as text. What is known to stay as it is (a refused login, a missing
//! repository, something the registry does not do) is not tried again; everything else is, since there is no end to the ways in which
//! a network fails.

use std::fmt;

use bollard::errors::Error;

use super::retry::Trouble;
use crate::executor::Cause;
use crate::executor::docker::config::EngineAddress;
use crate::executor::docker::engine;

/// What engines and registries say of things that another attempt does not change.
const LASTING: [&str; 20] = [
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "incorrect username or password",
    "denied",
    "forbidden",
    "insufficient_scope",
    "insufficient scope",
    "unsupported",
    "not supported",
    "not allowed",
    "not found",
    "no such image",
    "repository name not known",
    "name unknown",
    "name invalid",
    "manifest invalid",
    "invalid reference",
    "x509:",
    "server gave http response to https client",
];

/// HTTP statuses below 500 that pass: timeout, too early, too many requests.
const PASSING: [u16; 3] = [408, 425, 429];

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) message: String,
    /// Whether the message says by itself what could not be done.
    pub(super) complete: bool,
}

impl Fault {
    fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            complete: false,
        }
    }

    /// One whose message says by itself what could not be done.
    pub(super) fn complete(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            complete: true,
            ..Self::new(cause, message)
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the engine passes on from the registry, or from the network on the way there.
pub(super) fn of_registry(message: &str) -> Trouble<Fault> {
    let message = message.trim();
    if is_lasting(message) {
        Trouble::Fatal(Fault::new(Cause::Request, message))
    } else {
        Trouble::Retryable(Fault::new(Cause::Registry, message))
    }
}

/// A request to the engine that failed.
pub(super) fn of_request(address: &EngineAddress, error: &Error) -> Trouble<Fault> {
    match error {
        Error::DockerResponseServerError { message, .. } => of_registry(message),
        Error::DockerStreamError { error } => of_registry(error),
        error => of_engine(address, &engine::reason(error)),
    }
}

/// The engine went away, or makes no sense. It may be restarting.
pub(super) fn of_engine(address: &EngineAddress, reason: &str) -> Trouble<Fault> {
    Trouble::Retryable(Fault::new(
        Cause::Engine,
        format!("lost the Docker engine at {address} during the push: {reason}"),
    ))
}

/// Something that may pass, told in our own words.
pub(super) fn passing(message: impl Into<String>) -> Trouble<Fault> {
    Trouble::Retryable(Fault::new(Cause::Registry, message))
}

fn is_lasting(message: &str) -> bool {
    // Addresses hold names of the user's choice, which say nothing of what went wrong.
    let words: Vec<&str> = message
        .split_whitespace()
        .filter(|word| !word.contains("://"))
        .collect();
    let text = words.join(" ").to_lowercase();
    match status(&text) {
        Some(status) => (400..500).contains(&status) && !PASSING.contains(&status),
        None => LASTING.iter().any(|lasting| text.contains(lasting)),
    }
}

/// The HTTP status in `... unexpected HTTP status: 503 Service Unavailable` and the like.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text
        .rsplit_once("status: ")
        .or_else(|| text.rsplit_once("status code "))
        .or_else(|| text.rsplit_once("error parsing http "))?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        for message in [
            "unauthorized: authentication required",
            "no basic auth credentials",
            "denied: requested access to the resource is denied",
            "login attempt to http://127.0.0.1:5999/v2/ failed with status: 401 Unauthorized",
            "received unexpected HTTP status: 403 Forbidden",
            "received unexpected HTTP status: 404 Not Found",
            "name unknown: repository name not known to registry",
            "unsupported: The operation is unsupported.",
            "error parsing HTTP 405 response body: unexpected end of JSON input: \"\"",
            "Get \"https://host/v2/\": x509: certificate signed by unknown authority",
            "Get \"https://host/v2/\": http: server gave HTTP response to HTTPS client",
        ] {
            let Trouble::Fatal(fault) = of_registry(message) else {
                panic!("would be tried again: {message}")
            };
            assert_eq!(
                (fault.cause, fault.message.as_str()),
                (Cause::Request, message)
            );
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for message in [
            "Get \"http://127.0.0.1:5998/v2/\": dial tcp 127.0.0.1:5998: connect: connection refused",
            "Get \"http://host/v2/denied/unauthorized/\": EOF",
            "Put \"http://host/v2/not-found/manifests/v1\": net/http: TLS handshake timeout",
            "received unexpected HTTP status: 503 Service Unavailable",
            "received unexpected HTTP status: 500 Internal Server Error",
            "toomanyrequests: Rate exceeded",
            "received unexpected HTTP status: 429 Too Many Requests",
            "error parsing HTTP 408 response body: invalid character '<'",
            "blob upload unknown to registry",
            "An image does not exist locally with the tag: host/app",
            "read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer",
        ] {
            let Trouble::Retryable(fault) = of_registry(message) else {
                panic!("would not be tried again: {message}")
            };
            assert_eq!(
                (fault.cause, fault.message.as_str()),
                (Cause::Registry, message)
            );
        }
    }

    #[test]
    fn an_engine_that_went_away_may_come_back() {
        let trouble = of_request(&EngineAddress::default(), &Error::RequestTimeoutError);
        let expected = "lost the Docker engine at unix:///var/run/docker.sock during the push: it does not answer in time";
        assert_eq!(
            trouble,
            Trouble::Retryable(Fault::new(Cause::Engine, expected))
        );
    }
}
