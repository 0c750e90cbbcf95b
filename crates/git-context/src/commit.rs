//! The name of a commit: forty hexadecimal digits, checked once.
//!
//! Must never hold an abbreviated hash or the name of a branch: a job names its commits exactly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::GitError;

/// The SHA-1 of a commit, kept as lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The forty hexadecimal digits, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommitId {
    type Err = GitError;

    fn from_str(text: &str) -> Result<CommitId, GitError> {
        if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(CommitId(text.to_ascii_lowercase()))
        } else {
            Err(GitError::BadCommitHash {
                hash: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for CommitId {
    type Error = GitError;

    fn try_from(text: String) -> Result<CommitId, GitError> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(commit: CommitId) -> String {
        commit.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forty_hexadecimal_digits_are_a_commit_whatever_their_case() {
        let commit: CommitId = "0123456789ABCDEFabcdef0123456789abcdef01".parse().unwrap();
        assert_eq!(commit.as_str(), "0123456789abcdefabcdef0123456789abcdef01");
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        let too_long = "a".repeat(41);
        for bad in [
            "",
            "master",
            "0123abcd",
            too_long.as_str(),
            "é123456789abcdefabcdef0123456789abcdef0",
        ] {
            let error = bad.parse::<CommitId>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Bad commit hash {bad:?}: expected 40 hexadecimal digits")
            );
        }
    }
}
