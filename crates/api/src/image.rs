//! Names of images to push to: `repository:tag`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where a built image is pushed: a repository, which may name a registry's host and port, and a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageTarget {
    repository: String,
    tag: String,
}

/// What is wrong with the text of an [`ImageTarget`]. The words are those of OCluster's tools.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageTargetError {
    /// There is no `:TAG` (a registry's port is not a tag).
    #[error("Missing ':TAG' in target {0:?}")]
    MissingTag(String),
    /// Nothing stands before the tag.
    #[error("Repository empty in {0:?}")]
    EmptyRepository(String),
    /// Nothing stands behind the colon.
    #[error("Tag empty in {0:?}")]
    EmptyTag(String),
    /// What stands before the tag cannot be the name of a repository.
    #[error(
        "Invalid repository in target {0:?}: it is written [HOST[:PORT]/]NAME[/NAME], in lower-case letters, digits, '.', '_' and '-'"
    )]
    InvalidRepository(String),
    /// The tag cannot be one.
    #[error(
        "Invalid tag in target {0:?}: a tag has up to 128 letters, digits, '_', '.' and '-', and begins with none of the last two"
    )]
    InvalidTag(String),
}

/// The longest tag that registries take, in characters.
const MAX_TAG: usize = 128;
/// The longest repository name that registries take, in characters.
const MAX_REPOSITORY: usize = 255;

impl ImageTarget {
    /// The repository without its tag, e.g. `registry.example:5000/team/app`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, e.g. `latest`.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// The registry that a repository's name begins with, if it names one: Docker's rule is that a first part with a dot, a port or an
/// upper-case letter in it, or `localhost`, is a host.
#[must_use]
pub fn registry_of(repository: &str) -> Option<&str> {
    let (host, _) = repository.split_once('/')?;
    let is_host = host == "localhost"
        || host.contains(['.', ':'])
        || host.contains(|letter: char| letter.is_ascii_uppercase());
    is_host.then_some(host)
}

/// Whether `text` is the name of a repository without a tag, as Docker reads one.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    let (host, path) = match registry_of(text) {
        Some(host) => (Some(host), text.get(host.len() + 1..).unwrap_or_default()),
        None => (None, text),
    };
    text.len() <= MAX_REPOSITORY
        && host.is_none_or(is_host)
        && path.split('/').all(is_path_component)
}

/// `name`, `name:port` or `[v6 address]:port`.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let numeric = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let v6 = |name: &str| {
        let address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        address.is_some_and(|address| {
            !address.is_empty()
                && address
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        })
    };
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    port.is_none_or(numeric) && (v6(name) || name.split('.').all(is_label))
}

/// Letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(is_word)
        && bytes.last().is_some_and(is_word)
        && bytes.split(is_word).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    text.len() <= MAX_TAG
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

impl FromStr for ImageTarget {
    type Err = ImageTargetError;

    /// Splits at the last colon, unless what follows holds a `/`: then that colon belongs to the registry's port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once(':') {
            None => Err(ImageTargetError::MissingTag(text.to_owned())),
            Some((_, tag)) if tag.contains('/') => {
                Err(ImageTargetError::MissingTag(text.to_owned()))
            }
            Some(("", _)) => Err(ImageTargetError::EmptyRepository(text.to_owned())),
            Some((_, "")) => Err(ImageTargetError::EmptyTag(text.to_owned())),
            Some((repository, _)) if !is_repository(repository) => {
                Err(ImageTargetError::InvalidRepository(text.to_owned()))
            }
            Some((_, tag)) if !is_tag(tag) => Err(ImageTargetError::InvalidTag(text.to_owned())),
            Some((repository, tag)) => Ok(Self {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ImageTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ImageTarget, String> {
        text.parse()
            .map_err(|error: ImageTargetError| error.to_string())
    }

    #[test]
    fn splits_repository_and_tag() {
        let target = parse("registry.example:5000/team/app:v1").unwrap();
        assert_eq!(
            (target.repository(), target.tag()),
            ("registry.example:5000/team/app", "v1")
        );
        assert_eq!(target.to_string(), "registry.example:5000/team/app:v1");
    }

    #[test]
    fn says_what_is_missing() {
        assert_eq!(
            parse("foo").unwrap_err(),
            "Missing ':TAG' in target \"foo\""
        );
        assert_eq!(parse(":v1").unwrap_err(), "Repository empty in \":v1\"");
        assert_eq!(parse("foo:").unwrap_err(), "Tag empty in \"foo:\"");
    }

    #[test]
    fn a_port_is_not_a_tag() {
        // D21: upstream takes `5000/x` for the tag.
        assert_eq!(
            parse("host:5000/x").unwrap_err(),
            "Missing ':TAG' in target \"host:5000/x\""
        );
        assert_eq!(
            parse("localhost:5000/x").unwrap_err(),
            "Missing ':TAG' in target \"localhost:5000/x\""
        );
    }

    #[test]
    fn what_no_registry_would_take_is_refused_at_once() {
        for repository in [
            "app",
            "team/app",
            "a__b/c.d/e---f",
            "localhost/app",
            "localhost:5000/app",
            "Registry/app",
            "[::1]:5000/app",
            "10.0.0.1/team/app",
        ] {
            assert!(is_repository(repository), "{repository}");
        }
        let long = "a".repeat(256);
        for odd in [
            "Team", "a//b", "/a", "a/", "a..b", "a._b", "-a", "a-", "a b", "a?x=", "a@sha256", "é",
            "a:b/c", "-x.y/a", "x.y:/a", "../etc", &long,
        ] {
            assert!(!is_repository(odd), "{odd}");
            let error = parse(&format!("{odd}:v1")).unwrap_err();
            assert!(
                error.starts_with("Invalid repository in target "),
                "{error}"
            );
        }
        let long = "a".repeat(129);
        for odd in [".a", "-a", "a b", "a?b", "a@b", "é", &long] {
            let error = parse(&format!("app:{odd}")).unwrap_err();
            assert!(error.starts_with("Invalid tag in target "), "{error}");
        }
    }

    #[test]
    fn a_repository_names_its_registry_as_docker_has_it() {
        assert_eq!(
            registry_of("registry.example/app"),
            Some("registry.example")
        );
        assert_eq!(registry_of("host:5000/app"), Some("host:5000"));
        assert_eq!(registry_of("localhost/app"), Some("localhost"));
        assert_eq!(registry_of("team/app"), None);
        assert_eq!(registry_of("app"), None);
    }
}
