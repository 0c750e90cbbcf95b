//! What a registry's refusals mean, and what to do about them.

use reqwest::{Response, StatusCode};

use super::RegistryConfig;
use super::credentials::Login;
use super::endpoint::{Endpoint, host_of};
use super::transport::retry_after;
use super::trouble::Trouble;

/// The answer, if it is a good one. For a question for a part (`is_part`) that includes that there is no such part.
pub(super) fn checked(
    response: Response,
    endpoint: &Endpoint,
    config: &RegistryConfig,
    is_part: bool,
) -> Result<Response, Trouble> {
    let status = response.status();
    if status == StatusCode::OK
        || is_part
            && matches!(
                status,
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
            )
    {
        return Ok(response);
    }
    let host = host_of(response.url());
    // What a mirror or a redirect's target says is told as theirs.
    let who = if endpoint.name.contains(&host) {
        endpoint.name.clone()
    } else {
        format!("{} (at {host})", endpoint.name)
    };
    let who = format!("{who} answered {}", status.as_u16());
    let login = login_advice(endpoint, config);
    Err(match status {
        StatusCode::NOT_FOUND => Trouble::Request(format!(
            "{who}: no such image, or no permission to see it ({login})"
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Trouble::Request(format!("{who}: no permission to pull it ({login})"))
        }
        StatusCode::TOO_MANY_REQUESTS => limited(
            &response,
            format!("{who}: too many requests ({login})"),
            config,
        ),
        StatusCode::REQUEST_TIMEOUT => Trouble::passing(who),
        _ if status.is_server_error() => {
            limited(&response, format!("{who}: it has trouble"), config)
        }
        _ => Trouble::Source(format!("{who}, which no registry should")),
    })
}

/// What a token endpoint's refusal means.
pub(super) fn of_token(
    response: &Response,
    host: &str,
    endpoint: &Endpoint,
    login: Option<&Login>,
    config: &RegistryConfig,
) -> Trouble {
    let status = response.status();
    let who = format!("{host} answered {} when asked for a token", status.as_u16());
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        limited(response, who, config)
    } else if login.is_some() {
        Trouble::Request(format!("{who}: {}", bad_login(endpoint)))
    } else {
        Trouble::Request(format!("{who}: {}", no_login(endpoint, config)))
    }
}

/// Trouble that passes, if not too late.
fn limited(response: &Response, why: String, config: &RegistryConfig) -> Trouble {
    let wait = retry_after(response.headers());
    match wait {
        Some(wait) if wait > config.limits.longest_wait => Trouble::Source(format!(
            "{why}; it asks to wait for {} s, which is too long",
            wait.as_secs()
        )),
        wait => Trouble::Passing { why, wait },
    }
}

/// A login was needed, and there was none.
pub(super) fn no_login(endpoint: &Endpoint, config: &RegistryConfig) -> String {
    format!(
        "{} wants a login, and there is none ({})",
        endpoint.name,
        login_advice(endpoint, config)
    )
}

/// A login was of no use.
pub(super) fn bad_login(endpoint: &Endpoint) -> String {
    format!(
        "the login for {} is not accepted; make a new one",
        endpoint.login_name
    )
}

fn login_advice(endpoint: &Endpoint, config: &RegistryConfig) -> String {
    let command = if endpoint.login_name == "docker.io" {
        "docker login".to_owned()
    } else {
        format!("docker login {}", endpoint.login_name)
    };
    match &config.docker_config {
        Some(file) => format!(
            "log in with \"{command}\"; logins are read from {}",
            file.display()
        ),
        None => "no file of logins is configured".to_owned(),
    }
}
