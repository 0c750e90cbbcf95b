//! Names of images, read as Docker reads them: `busybox` is `docker.io/library/busybox:latest`.
//!
//! A name is parsed once; what comes out can be put into a URL as it is, since nothing in it needs escaping. It asks nobody anything.

use std::fmt;
use std::str::FromStr;

use bstr::{BStr, ByteSlice as _};

use super::registry::Digest;

/// The registry of names that name none.
pub(super) const DOCKER_HUB: &str = "docker.io";
/// Another name of the same.
pub(super) const OLD_DOCKER_HUB: &str = "index.docker.io";
/// The tag of names with neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// The longest repository name that registries take, its host included, in bytes.
const MAX_NAME: usize = 255;
/// The longest tag that registries take, in bytes.
const MAX_TAG: usize = 128;

/// The name of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What is wrong with the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of an image: {fault}")]
pub struct ReferenceError {
    name: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("it is empty")]
    Empty,
    #[error("there are bytes in it that are not UTF-8")]
    NotText,
    #[error("it is written without {0:?} before it")]
    Url(String),
    #[error("the registry {0:?} is not written HOST or HOST:PORT")]
    Host(String),
    #[error("the repository {0:?} must be in lower case")]
    UpperCase(String),
    #[error(
        "the repository {0:?} is not written NAME[/NAME...] with lower-case letters, digits, and '.', '_' or '-' between them"
    )]
    Repository(String),
    #[error("registry and repository have more than {MAX_NAME} characters")]
    Long,
    #[error(
        "the tag {0:?} is not up to {MAX_TAG} letters, digits, '_', '.' and '-', beginning with none of the last two"
    )]
    Tag(String),
    #[error("the digest {0:?} is not written sha256: and 64 digits of 0-9 and a-f")]
    Digest(String),
    #[error(
        "64 hexadecimal digits are the id of an image, which registries do not know; a digest is written NAME@sha256:..."
    )]
    Id,
}

impl Reference {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &BStr) -> Result<Self, ReferenceError> {
        name.to_str()
            .map_err(|_| Fault::NotText)
            .and_then(read)
            .map_err(|fault| ReferenceError {
                name: name.to_str_lossy().into_owned(),
                fault,
            })
    }

    /// The registry, with its port if it was named: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository there, e.g. `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was named, or if neither it nor a digest was.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was named. It decides, whatever the tag.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// How a registry is asked for it: its digest, or else its tag.
    pub(super) fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        Self::parse(name.into())
    }
}

impl fmt::Display for Reference {
    /// The whole name, with everything that may be left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn read(text: &str) -> Result<Reference, Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(Fault::Url(format!("{scheme}://")));
    }
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::Id);
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let parsed = digest.parse().map_err(|_| Fault::Digest(digest.to_owned()));
            (rest, Some(parsed?))
        }
        None => (text, None),
    };
    // A colon before a slash belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(Fault::Tag(tag.to_owned()));
    }
    let (host, repository) = split_host(name);
    if !is_host(host) {
        return Err(Fault::Host(host.to_owned()));
    }
    let host = if host == OLD_DOCKER_HUB {
        DOCKER_HUB
    } else {
        host
    };
    let repository = if host == DOCKER_HUB && !repository.is_empty() && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    if !repository.split('/').all(is_component) {
        return Err(if repository.contains(|c: char| c.is_ascii_uppercase()) {
            Fault::UpperCase(repository)
        } else {
            Fault::Repository(repository)
        });
    }
    if host.len() + 1 + repository.len() > MAX_NAME {
        return Err(Fault::Long);
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference {
        host: host.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// Docker's rule: a first part with a dot, a port or an upper-case letter in it, or `localhost`, is a host.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, repository))
            if host == "localhost"
                || host.contains(['.', ':'])
                || host.contains(|letter: char| letter.is_ascii_uppercase()) =>
        {
            (host, repository)
        }
        _ => (DOCKER_HUB, name),
    }
}

/// `name`, `name:port`, `[v6 address]` or `[v6 address]:port`.
pub(super) fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let v6 = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
        && v6.map_or_else(
            || name.split('.').all(is_label),
            |v6| v6.parse::<std::net::Ipv6Addr>().is_ok(),
        )
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(is_word)
        && bytes.last().is_some_and(is_word)
        && bytes.split(is_word).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::Reference;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn whole(name: &str) -> String {
        name.parse::<Reference>().expect(name).to_string()
    }

    fn fault(name: &str) -> String {
        name.parse::<Reference>().expect_err(name).to_string()
    }

    #[test]
    fn what_a_name_leaves_out_is_docker_hubs() {
        assert_eq!(whole("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(whole("ocaml/opam"), "docker.io/ocaml/opam:latest");
        assert_eq!(
            whole("ocaml/opam:debian-12-ocaml-5.2"),
            "docker.io/ocaml/opam:debian-12-ocaml-5.2"
        );
        assert_eq!(
            whole("docker.io/busybox"),
            "docker.io/library/busybox:latest"
        );
        assert_eq!(
            whole("index.docker.io/library/busybox"),
            "docker.io/library/busybox:latest"
        );
    }

    #[test]
    fn a_first_part_like_a_host_is_the_registry() {
        assert_eq!(whole("localhost/a"), "localhost/a:latest");
        assert_eq!(whole("localhost:5000/a/b:c"), "localhost:5000/a/b:c");
        assert_eq!(whole("ghcr.io/a/b"), "ghcr.io/a/b:latest");
        assert_eq!(whole("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(whole("Registry/a"), "Registry/a:latest");
        assert_eq!(whole("registry/a"), "docker.io/registry/a:latest");
    }

    #[test]
    fn a_colon_before_a_slash_is_a_port_and_not_a_tag() {
        let name: Reference = "host:5000/name".parse().expect("a name");
        assert_eq!((name.host(), name.tag()), ("host:5000", Some("latest")));
    }

    #[test]
    fn a_digest_decides_and_makes_a_tag_needless() {
        assert_eq!(
            whole(&format!("busybox@{DIGEST}")),
            format!("docker.io/library/busybox@{DIGEST}")
        );
        let both: Reference = format!("host:1/name:tag@{DIGEST}").parse().expect("a name");
        assert_eq!(both.to_string(), format!("host:1/name:tag@{DIGEST}"));
        assert_eq!(both.tag_or_digest(), DIGEST);
    }

    #[test]
    fn names_print_as_what_reads_as_the_same() {
        for name in ["busybox", "a.b:1/c__d/e--f:g.h-i", &format!("x@{DIGEST}")] {
            let printed = whole(name);
            assert_eq!(whole(&printed), printed);
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_named() {
        for (name, part) in [
            ("", "empty"),
            ("https://ghcr.io/a", "without \"https://\""),
            ("Busybox", "lower case"),
            ("ghcr.io/Owner/a", "lower case"),
            ("a//b", "\"a//b\""),
            ("a/../b", "\"a/../b\""),
            ("a/", "repository"),
            ("a b", "\"library/a b\""),
            ("a?x=1", "repository"),
            ("-a", "repository"),
            ("a:", "the tag \"\""),
            ("a:.b", "the tag \".b\""),
            ("a@sha256:12", "the digest \"sha256:12\""),
            ("a@md5:12", "the digest"),
            ("ghcr.io:99999/a", "the registry"),
            ("gh_cr.io/a", "the registry"),
            ("[::zz]:1/a", "the registry"),
        ] {
            let fault = fault(name);
            assert!(fault.contains(part), "{name}: {fault}");
            assert!(fault.starts_with(&format!("{name:?} is not")), "{fault}");
        }
        assert!(fault(&"a".repeat(64)).contains("id of an image"));
        assert!(fault("x/".repeat(130).trim_end_matches('/')).contains("255"));
        assert!(fault(&format!("a:{}", "b".repeat(129))).contains("128"));
        let bytes = Reference::parse(b"a\xff".into()).expect_err("bytes");
        assert!(bytes.to_string().contains("UTF-8"));
    }
}
