//! What went wrong in an attempt to push, whose fault it is, and whether another attempt may go better.
//!
//! The engine passes on what registries and the network say as text. What is known to stay as it is (a refused login, a missing
//! repository, something the registry does not do) is not tried again; everything else is, since there is no end to the ways in which
//! a network fails.

use std::fmt;

use bollard::errors::Error;
use ocluster_api::{ImageTarget, registry_of};

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

/// What the engine passes on from the registry of `target`, or from the network on the way there.
pub(super) fn of_registry(message: &str, target: &ImageTarget) -> Trouble<Fault> {
    let message = message.trim();
    if is_lasting(message, target) {
        Trouble::Fatal(Fault::new(Cause::Request, message))
    } else {
        Trouble::Retryable(Fault::new(Cause::Registry, message))
    }
}

/// A request to the engine that failed, on the way to push to `target`.
pub(super) fn of_request(
    address: &EngineAddress,
    error: &Error,
    target: &ImageTarget,
) -> Trouble<Fault> {
    match error {
        Error::DockerResponseServerError { message, .. } => of_registry(message, target),
        Error::DockerStreamError { error } => of_registry(error, target),
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

fn is_lasting(message: &str, target: &ImageTarget) -> bool {
    // Addresses and names are of the user's choice, and say nothing of what went wrong.
    let repository = target.repository();
    let registry = registry_of(repository).unwrap_or_default();
    let host = registry
        .rsplit_once(':')
        .map_or(registry, |(host, _port)| host);
    let path = repository.strip_prefix(registry).unwrap_or(repository);
    let names = [host, path.trim_start_matches('/')];
    let without = |is_chosen: &dyn Fn(&str) -> bool| {
        let words = message.split_whitespace().filter(|word| !is_chosen(word));
        words.collect::<Vec<_>>().join(" ").to_lowercase()
    };
    let is_address = |word: &str| word.contains("://");
    match status(&without(&is_address)) {
        Some(status) => (400..500).contains(&status) && !PASSING.contains(&status),
        None => {
            let is_name = |word: &str| names.iter().any(|name| has_name(word, name));
            let text = without(&|word| is_address(word) || is_name(word));
            LASTING.iter().any(|lasting| text.contains(lasting))
        }
    }
}

/// Whether `name` stands in `word`, and not as a part of a longer name.
fn has_name(word: &str, name: &str) -> bool {
    let of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    !name.is_empty()
        && word.match_indices(name).any(|(start, _)| {
            let before = word.get(..start).unwrap_or_default();
            let after = word.get(start + name.len()..).unwrap_or_default();
            !before.ends_with(of_name) && !after.starts_with(of_name)
        })
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

    fn of_registry(message: &str) -> Trouble<Fault> {
        super::of_registry(message, &"host/app:v1".parse().unwrap())
    }

    #[test]
    fn names_of_the_user_s_choice_say_nothing_of_what_went_wrong() {
        let lasts = |message, target: &str| is_lasting(message, &target.parse().unwrap());
        for (message, target) in [
            (
                "dial tcp: lookup denied.example: no such host",
                "denied.example:5000/app:v1",
            ),
            (
                "dial tcp: lookup denied.example on 127.0.0.1:53: server misbehaving",
                "denied.example/app:v1",
            ),
            (
                "blob upload to host/team/forbidden failed: EOF",
                "host/team/forbidden:v1",
            ),
            (
                "An image does not exist locally with the tag: unsupported",
                "unsupported:v1",
            ),
        ] {
            assert!(!lasts(message, target), "{message}");
        }
        let denied = "denied: requested access to the resource is denied";
        assert!(lasts(denied, "denied.example/app:v1"));
        assert!(lasts(
            "received unexpected HTTP status: 403 Forbidden",
            "status:v1"
        ));
        assert!(lasts("unauthorized: authentication required", "a:v1"));
    }

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
        let trouble = of_request(
            &EngineAddress::default(),
            &Error::RequestTimeoutError,
            &"host/app:v1".parse().unwrap(),
        );
        let expected = "lost the Docker engine at unix:///var/run/docker.sock during the push: it does not answer in time";
        assert_eq!(
            trouble,
            Trouble::Retryable(Fault::new(Cause::Engine, expected))
        );
    }
}
