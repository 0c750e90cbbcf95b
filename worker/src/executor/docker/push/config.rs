//! What an operator decides about pushing: where to, and with how much patience.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use ocluster_api::is_repository;
use thiserror::Error;

use super::retry::Retries;

/// How images are pushed. The default allows no repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// The repositories that jobs may push to.
    pub allowed: BTreeSet<AllowedRepository>,
    /// How often, and after which waits, a push that failed is tried again.
    pub retries: Retries,
    /// How long the engine may report no progress of a push before it is given up, and perhaps tried again.
    pub silence_limit: Duration,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            allowed: BTreeSet::new(),
            retries: Retries::default(),
            silence_limit: Duration::from_secs(10 * 60),
        }
    }
}

impl PushConfig {
    /// Whether jobs may push to `repository`, whose name must be exactly that of the list.
    pub(in crate::executor::docker) fn allows(&self, repository: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed.0 == repository)
    }
}

/// A repository that jobs may push to, without a tag: `registry.example:5000/team/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllowedRepository(String);

/// A text that does not name a repository.
#[derive(Debug, Error)]
#[error(
    "{0:?} is not the name of a repository: give it without a tag, as in registry.example:5000/team/app"
)]
pub struct AllowedRepositoryError(String);

impl FromStr for AllowedRepository {
    type Err = AllowedRepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        if is_repository(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(AllowedRepositoryError(name.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_allowed_and_only_in_full() {
        let config = PushConfig {
            allowed: BTreeSet::from(["host:5000/team/app".parse().unwrap()]),
            ..PushConfig::default()
        };
        assert!(config.allows("host:5000/team/app"));
        for other in ["host:5000/team", "host:5000/team/app2", "team/app", ""] {
            assert!(!config.allows(other), "{other}");
        }
        assert!(!PushConfig::default().allows("app"));
    }

    #[test]
    fn a_list_with_tags_or_nonsense_is_a_mistake() {
        for wrong in ["team/app:v1", "", "Team/App", "a b", "https://x/y"] {
            let error = wrong.parse::<AllowedRepository>().unwrap_err().to_string();
            assert!(error.contains("give it without a tag"), "{error}");
        }
    }
}
