//! Build arguments, and other parameters of a build that the client library cannot express.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::executor::Failure;

/// How long the parameter may be, in bytes. It is in the request's first line, for which HTTP libraries have 64 KiB.
const MAX_LENGTH: usize = 60_000;

/// The request parameter for `arguments`, with a leading `&`; nothing if there are none.
///
/// A name without a value takes the worker's own, as the Docker command line does, and is sent as null if there is none.
///
/// # Errors
/// If they do not fit into a request.
pub(super) fn parameter(arguments: &[String]) -> Result<String, Failure> {
    if arguments.is_empty() {
        return Ok(String::new());
    }
    let json = json(arguments, |name| std::env::var(name).ok());
    let parameter = format!("&buildargs={}", encode(&json));
    if parameter.len() > MAX_LENGTH {
        return Err(Failure::request(format!(
            "the build arguments take {} bytes in a request to the Docker engine, and {MAX_LENGTH} at most fit: \
             put what is large into a file of the build context",
            parameter.len()
        )));
    }
    Ok(parameter)
}

/// `value` as it is written in a request's parameters.
pub(super) fn encode(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

fn json(arguments: &[String], environment: impl Fn(&str) -> Option<String>) -> String {
    let values: BTreeMap<&str, Option<String>> = arguments
        .iter()
        .map(|argument| match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), environment(argument)),
        })
        .collect();
    serde_json::json!(values).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let error = parameter(&[format!("A={}", "x".repeat(70_000))]).unwrap_err();
        assert!(
            error.message.contains("take 70033 bytes") && error.message.contains("into a file"),
            "{error:?}"
        );
        assert_eq!(parameter(&[]).unwrap(), "");
    }

    #[test]
    fn build_arguments_take_their_values_as_the_docker_command_does() {
        let arguments = ["A=1", "B=x=y", "EMPTY=", "FROM_ENV", "UNSET", "A=2"].map(str::to_owned);
        let json = json(&arguments, |name| {
            (name == "FROM_ENV").then(|| "worker's".to_owned())
        });
        assert_eq!(
            json,
            r#"{"A":"2","B":"x=y","EMPTY":"","FROM_ENV":"worker's","UNSET":null}"#
        );
    }
}
