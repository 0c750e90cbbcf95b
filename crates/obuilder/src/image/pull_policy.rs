//! When to look again what a name stands for, as it is written: `missing`, `always`, or a time as in `6h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use super::PullPolicy;

/// Words that do not say when to look again what an image's name stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" does not say when to pull base images: use missing, always, or a time after which to look again, as in 6h"
)]
pub struct PullPolicyError(String);

impl FromStr for PullPolicy {
    type Err = PullPolicyError;

    fn from_str(text: &str) -> Result<Self, PullPolicyError> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            time => time
                .parse::<SignedDuration>()
                .ok()
                .and_then(|time| Duration::try_from(time).ok())
                .map(Self::After)
                .ok_or_else(|| PullPolicyError(text.to_owned())),
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Always => f.write_str("always"),
            Self::After(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_word_or_a_time() {
        for (text, policy) in [
            ("missing", PullPolicy::Missing),
            ("always", PullPolicy::Always),
            ("6h", PullPolicy::After(Duration::from_secs(6 * 3600))),
            ("1h30m", PullPolicy::After(Duration::from_secs(5400))),
            ("0s", PullPolicy::After(Duration::ZERO)),
        ] {
            assert_eq!(text.parse(), Ok(policy));
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for wrong in ["", "never", "6", "-6h", "6 lightyears"] {
            let error = wrong.parse::<PullPolicy>().unwrap_err().to_string();
            assert!(error.contains("use missing, always"), "{error}");
        }
    }
}
