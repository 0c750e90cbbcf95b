//! The URL of a repository: which ones are allowed, how one looks in a log, and what a relative one means.
//!
//! A user name or password in a URL must never get into a log, an error or the name of a file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::GitError;

/// A URL with scheme `git`, `http` or `https` and a host. [`fmt::Display`] leaves out user information.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryUrl(String);

impl RepositoryUrl {
    /// The URL as given, user information included. Only for the connection itself.
    pub(crate) fn as_given(&self) -> &str {
        &self.0
    }

    /// Host name, with the port if one is given.
    #[must_use]
    pub fn host(&self) -> String {
        let Ok(url) = Url::parse(&self.0) else {
            return self.to_string();
        };
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Whether the server is GitHub, which keeps pull requests where others keep merge requests.
    pub(crate) fn is_github(&self) -> bool {
        self.host().eq_ignore_ascii_case("github.com")
    }

    /// A directory name for things of this URL: readable at its start, unique by its end.
    pub(crate) fn directory_name(&self) -> String {
        let path = redacted(&self.0);
        let base: String = path
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .take(64)
            .collect();
        let base = base.trim_start_matches('.');
        let hash = Sha256::digest(self.0.as_bytes());
        let mut name = format!("{base}-");
        for byte in hash.iter().take(20) {
            name.push_str(&format!("{byte:02x}"));
        }
        name
    }

    /// What `reference`, the URL of a submodule of this repository, means. One that begins with `./` or `../` is
    /// relative to this one, taken as a directory; any other is a URL by itself.
    ///
    /// # Errors
    /// As for parsing; also if the reference climbs above the host.
    pub fn submodule(&self, reference: &str) -> Result<RepositoryUrl, GitError> {
        if !(reference.starts_with("./") || reference.starts_with("../")) {
            return reference.parse();
        }
        let too_high = || GitError::InvalidUrl {
            url: redacted(reference),
            reason: format!("it leads above the host of {self}"),
        };
        let given = self.0.trim_end_matches('/');
        let host_start = given.find("://").map_or(0, |at| at + 3);
        let path_start = given
            .get(host_start..)
            .and_then(|rest| rest.find('/'))
            .map_or(given.len(), |at| host_start + at);
        let (host, path) = given.split_at(path_start);
        let mut segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let mut rest = reference;
        loop {
            if let Some(tail) = rest.strip_prefix("../") {
                segments.pop().ok_or_else(too_high)?;
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix("./") {
                rest = tail;
            } else {
                break;
            }
        }
        segments.extend(rest.split('/').filter(|s| !s.is_empty()));
        if segments.contains(&"..") {
            return Err(too_high());
        }
        format!("{host}/{}", segments.join("/")).parse()
    }
}

impl FromStr for RepositoryUrl {
    type Err = GitError;

    fn from_str(text: &str) -> Result<RepositoryUrl, GitError> {
        let shown = redacted(text);
        let Some(scheme) = scheme(text) else {
            return Err(GitError::MissingScheme { url: shown });
        };
        if !["git", "http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err(GitError::UnsupportedScheme {
                scheme: scheme.to_owned(),
                url: shown,
            });
        }
        let invalid = |reason: &str| GitError::InvalidUrl {
            url: shown.clone(),
            reason: reason.to_owned(),
        };
        // A newline or a NUL would end the request line of the git protocol and begin another.
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(invalid("it holds a blank or a control character"));
        }
        let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("it has no host"));
        }
        if !text
            .to_ascii_lowercase()
            .starts_with(&format!("{}://", url.scheme()))
        {
            return Err(invalid("two slashes must follow the scheme"));
        }
        // Some readers of URLs pass over more slashes and find a host, with a password, where others see a path.
        let more_slashes = |(_, rest): (&str, &str)| rest.starts_with(['/', '\\']);
        if text.split_once("://").is_some_and(more_slashes) {
            return Err(invalid("only two slashes may follow the scheme"));
        }
        Ok(RepositoryUrl(text.to_owned()))
    }
}

/// What stands before the first colon, if that can be a scheme (RFC 3986, section 3.1).
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let mut chars = scheme.chars();
    let begins_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    let goes_on_well = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (begins_well && goes_on_well).then_some(scheme)
}

/// `text` without user information, control characters as escapes.
pub(crate) fn redacted(text: &str) -> String {
    let mut shown = match text.split_once("://") {
        Some((scheme, rest)) => {
            // No URL of ours has more slashes, but what is refused is shown as well.
            let begin = rest.len() - rest.trim_start_matches(['/', '\\']).len();
            let (slashes, rest) = rest.split_at(begin);
            // Browsers and curl take `\` for `/` in places; neither may hide an `@` from us.
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{slashes}{host}{path}")
        }
        None => text.to_owned(),
    };
    if shown.chars().any(char::is_control) {
        shown = shown.escape_debug().to_string();
    }
    shown
}

impl TryFrom<String> for RepositoryUrl {
    type Error = GitError;

    fn try_from(text: String) -> Result<RepositoryUrl, GitError> {
        text.parse()
    }
}

impl From<RepositoryUrl> for String {
    fn from(url: RepositoryUrl) -> String {
        url.0
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn url(text: &str) -> RepositoryUrl {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<RepositoryUrl>().unwrap_err().to_string()
    }

    #[test]
    fn the_three_schemes_are_accepted() {
        for good in [
            "git://h/x",
            "http://h:80/x.git",
            "https://h/x/",
            "HTTPS://h/x",
        ] {
            assert_eq!(url(good).as_given(), good);
        }
    }

    #[test]
    fn other_schemes_are_refused_in_oclusters_words() {
        assert_eq!(
            refusal("ftp://x/y"),
            "Unsupported scheme \"ftp\" in URL ftp://x/y"
        );
        assert_eq!(
            refusal("file:///etc"),
            "Unsupported scheme \"file\" in URL file:///etc"
        );
        assert_eq!(
            refusal("ssh://git@h/x"),
            "Unsupported scheme \"ssh\" in URL ssh://h/x"
        );
        assert_eq!(
            refusal("git+ssh://h/x"),
            "Unsupported scheme \"git+ssh\" in URL git+ssh://h/x"
        );
    }

    #[test]
    fn a_path_or_an_scp_address_has_no_scheme() {
        assert_eq!(refusal("/srv/x"), "Missing scheme in URL /srv/x");
        assert_eq!(
            refusal("git@github.com:a/b"),
            "Missing scheme in URL git@github.com:a/b"
        );
        assert_eq!(refusal(""), "Missing scheme in URL ");
    }

    #[test]
    fn a_url_that_could_smuggle_a_second_request_is_refused() {
        assert_eq!(
            refusal("git://h/x\nhost=evil"),
            "Invalid URL git://h/x\\nhost=evil: it holds a blank or a control character"
        );
        assert!(refusal("git://h/a b").contains("blank"));
        assert!(refusal("http:h/x").contains("two slashes"));
        assert!(refusal("git:///x").contains("no host"));
    }

    #[test]
    fn user_information_is_in_no_text() {
        let secret = url("https://me:s3cret@h.org/x.git");
        assert_eq!(secret.to_string(), "https://h.org/x.git");
        assert!(!format!("{secret:?}").contains("s3cret"));
        assert!(!secret.directory_name().contains("s3cret"));
        assert!(
            !url("https://me:s3cret@h.org")
                .directory_name()
                .contains("s3cret")
        );
        assert_eq!(secret.host(), "h.org");
        assert!(!refusal("ftp://me:s3cret@h/x").contains("s3cret"));
        // Some readers of URLs find the same host behind these.
        for slashes in ["///", "////", "//\\", "//\\/"] {
            let refusal = refusal(&format!("http:{slashes}me:s3cret@h/x"));
            assert!(!refusal.contains("s3cret"), "{refusal}");
            assert!(refusal.contains("only two slashes"), "{refusal}");
        }
    }

    #[test]
    fn directory_names_tell_urls_apart_and_stay_inside_the_cache() {
        let name = url("https://h/a/repo.git").directory_name();
        assert!(name.starts_with("repo.git-"), "{name}");
        assert_ne!(name, url("https://h/b/repo.git").directory_name());
        let odd = url("https://h/..").directory_name();
        assert!(odd.starts_with('-') && !odd.contains('/'), "{odd}");
    }

    #[test]
    fn a_relative_submodule_url_starts_from_the_parents() {
        let parent = url("https://h/group/main.git");
        assert_eq!(
            parent.submodule("../lib.git").unwrap(),
            url("https://h/group/lib.git")
        );
        assert_eq!(
            parent.submodule("./lib").unwrap(),
            url("https://h/group/main.git/lib")
        );
        assert_eq!(
            parent.submodule("../../o/./../lib").unwrap_err().cause(),
            crate::Cause::Request
        );
        assert_eq!(parent.submodule("git://o/lib").unwrap(), url("git://o/lib"));
        let slashed = url("git://h:9418/group/main/");
        assert_eq!(
            slashed.submodule("../lib").unwrap(),
            url("git://h:9418/group/lib")
        );
    }

    #[test]
    fn a_submodule_url_cannot_leave_its_host_or_read_local_files() {
        let parent = url("https://h/main.git");
        assert!(
            parent
                .submodule("../../x")
                .unwrap_err()
                .to_string()
                .contains("above the host")
        );
        for local in ["file:///etc", "/etc/x", "main", "..", "ssh://h/x"] {
            assert!(parent.submodule(local).is_err(), "{local}");
        }
    }
}
