//! The login of one push, in the form in which the engine takes it. It must never be shown: there is no way to print it, and what
//! others say goes through [`Credentials::hide`] first.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use bytes::Bytes;
use ocluster_api::{RegistryLogin, registry_of};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::executor::Failure;
use crate::executor::docker::logins::DOCKER_HUB;

/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// A password with fewer characters is not hidden: it stands in half of all lines by chance, and hiding those would give it away.
const SHORTEST_HIDDEN: usize = 4;

/// What is escaped in the parameters of addresses.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// What is escaped where an address names a user.
const USER: &AsciiSet = &PARAMETER
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=');

/// How to log in to the registry of one repository; perhaps not at all.
pub(super) struct Credentials {
    user: Option<String>,
    /// The engine's form of them, a JSON object.
    json: Zeroizing<Vec<u8>>,
    /// Everything that must not be shown, the longest first.
    secrets: Vec<Zeroizing<String>>,
}

#[derive(Default, Serialize)]
struct Login<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serveraddress: Option<&'a str>,
}

impl Credentials {
    /// Those for `repository`.
    ///
    /// # Errors
    /// If the password is not text.
    pub(super) fn new(login: Option<&RegistryLogin>, repository: &str) -> Result<Self, Failure> {
        let Some(login) = login else {
            return Self::of(&Login::default(), None, Vec::new());
        };
        let password = std::str::from_utf8(login.password.expose())
            .map_err(|_| Failure::request("the push password is not valid UTF-8"))?;
        let basic = Zeroizing::new(format!("{}:{password}", login.user));
        let mut secrets = written_forms(password)?;
        secrets.push(Zeroizing::new(BASE64_STANDARD.encode(basic.as_str())));
        secrets.push(Zeroizing::new(BASE64_URL_SAFE.encode(basic.as_str())));
        secrets.retain(|secret| secret.chars().count() >= SHORTEST_HIDDEN);
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let json = Login {
            username: Some(&login.user),
            password: Some(password),
            serveraddress: Some(registry_of(repository).unwrap_or(DOCKER_HUB)),
        };
        Self::of(&json, Some(login.user.clone()), secrets)
    }

    fn of(
        login: &Login<'_>,
        user: Option<String>,
        secrets: Vec<Zeroizing<String>>,
    ) -> Result<Self, Failure> {
        let json = serde_json::to_vec(login).map_err(unwritable)?;
        Ok(Self {
            user,
            json: Zeroizing::new(json),
            secrets,
        })
    }

    /// Whose they are, unless there is no login.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// For the header of a push, which the engine wants even without a login.
    pub(super) fn header(&self) -> String {
        BASE64_URL_SAFE.encode(self.json.as_slice())
    }

    /// For the body of the request that checks them.
    pub(super) fn body(&self) -> Bytes {
        Bytes::copy_from_slice(&self.json)
    }

    /// `text` without anything secret, should a registry repeat what it was told.
    pub(super) fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), HIDDEN)
        })
    }
}

/// `password` as it is and as it is written in JSON and in addresses, each in the ways of different writers.
fn written_forms(password: &str) -> Result<Vec<Zeroizing<String>>, Failure> {
    if password.chars().count() < SHORTEST_HIDDEN {
        return Ok(Vec::new());
    }
    let quoted = Zeroizing::new(serde_json::to_string(password).map_err(unwritable)?);
    let json = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&quoted);
    let escaped = |set| Zeroizing::new(utf8_percent_encode(password, set).to_string());
    let parameter = escaped(PARAMETER);
    let forms = vec![
        Zeroizing::new(password.to_owned()),
        Zeroizing::new(json.to_owned()),
        // Programs in Go, such as engines and registries, escape three more in JSON.
        Zeroizing::new(
            json.replace('<', "\\u003c")
                .replace('>', "\\u003e")
                .replace('&', "\\u0026"),
        ),
        Zeroizing::new(parameter.replace("%20", "+")),
        parameter,
        escaped(USER),
    ];
    Ok(forms)
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::setup(format!("cannot write a login: {error}"))
}

#[cfg(test)]
mod tests {
    use ocluster_api::SecretBytes;

    use super::*;

    fn login(password: &[u8]) -> RegistryLogin {
        RegistryLogin {
            user: "ci".into(),
            password: SecretBytes::new(password.to_vec()),
        }
    }

    #[test]
    fn the_engine_is_told_user_password_and_registry() {
        let told = |repository: &str| {
            let credentials = Credentials::new(Some(&login(b"pa?ss~~>")), repository).unwrap();
            assert!(!credentials.header().contains(['+', '/']));
            assert_eq!(
                BASE64_URL_SAFE.decode(credentials.header()).unwrap(),
                credentials.body()
            );
            String::from_utf8(credentials.body().to_vec()).unwrap()
        };
        assert_eq!(
            told("host:5000/app"),
            r#"{"username":"ci","password":"pa?ss~~>","serveraddress":"host:5000"}"#
        );
        assert!(told("team/app").contains(r#""serveraddress":"https://index.docker.io/v1/""#));
        let nobody = Credentials::new(None, "host:5000/app").unwrap();
        assert_eq!((nobody.user(), nobody.header().as_str()), (None, "e30="));
    }

    #[test]
    fn what_a_registry_repeats_is_hidden() {
        let credentials = Credentials::new(Some(&login(b"hunter2")), "app").unwrap();
        let basic = BASE64_STANDARD.encode("ci:hunter2");
        let text = format!("you said Basic {basic}, that is hunter2");
        assert_eq!(credentials.hide(&text), "you said Basic ***, that is ***");
        let nobody = Credentials::new(None, "app").unwrap();
        assert_eq!(nobody.hide("as it was"), "as it was");
        let empty = Credentials::new(Some(&login(b"")), "app").unwrap();
        assert_eq!(empty.hide("as it was"), "as it was");
    }

    #[test]
    fn escaped_passwords_are_hidden_and_very_short_ones_are_not() {
        let credentials = Credentials::new(Some(&login(b"a\"b <&>+c")), "app").unwrap();
        for form in [
            r#"a"b <&>+c"#,
            r#"a\"b <&>+c"#,
            r#"a\"b \u003c\u0026\u003e+c"#,
            "a%22b%20%3C%26%3E%2Bc",
            "a%22b+%3C%26%3E%2Bc",
            "a%22b%20%3C&%3E+c",
        ] {
            assert_eq!(credentials.hide(&format!("said {form}.")), "said ***.");
        }
        let short = Credentials::new(Some(&login(b"ab ")), "app").unwrap();
        let basic = BASE64_STANDARD.encode("ci:ab ");
        assert_eq!(short.hide("ab ab ab%20"), "ab ab ab%20");
        assert_eq!(short.hide(&basic), "***");
    }

    #[test]
    fn a_password_that_is_no_text_is_refused_without_being_shown() {
        let failure = Credentials::new(Some(&login(b"a\xffb")), "app")
            .err()
            .unwrap();
        assert_eq!(failure.message, "the push password is not valid UTF-8");
    }
}
