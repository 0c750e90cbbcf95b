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
}

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
    }
}
