//! How often and how fast something is tried again at one registry.

use std::time::Duration;

use rand::Rng as _;

use super::RegistryLimits;
use super::endpoint::Endpoint;
use super::trouble::Trouble;

/// How many attempts a mirror has: there is somebody else to ask.
const MIRROR_ATTEMPTS: u32 = 2;
/// The longest wait before the second attempt that makes sense.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// How often the wait doubles.
const MAX_DOUBLINGS: u32 = 4;

/// What is left of our patience with a registry.
#[derive(Debug)]
pub(super) struct Patience {
    most: u32,
    failed: u32,
    delay: Duration,
}

impl Patience {
    pub(super) fn with(endpoint: &Endpoint, limits: &RegistryLimits) -> Self {
        let most = limits.attempts.max(1);
        Self {
            most: if endpoint.is_mirror {
                most.min(MIRROR_ATTEMPTS)
            } else {
                most
            },
            failed: 0,
            delay: limits.retry_delay,
        }
    }

    /// Says that the last attempt brought something, though it failed.
    pub(super) fn restore(&mut self) {
        self.failed = 0;
    }

    /// How long to wait before the next attempt after `trouble`; nothing if there is to be none.
    pub(super) fn after(&mut self, trouble: &Trouble) -> Option<Duration> {
        let Trouble::Passing { wait, .. } = trouble else {
            return None;
        };
        self.failed += 1;
        if self.failed >= self.most {
            return None;
        }
        let doubled = self.delay.min(LONGEST_DELAY) * (1 << (self.failed - 1).min(MAX_DOUBLINGS));
        // Many workers that lose a registry at once are not to come back at once.
        let ours = doubled.mul_f64(rand::rng().random_range(0.75..1.25));
        Some(wait.map_or(ours, |wait| wait.max(ours)))
    }

    /// How many attempts in a row failed.
    pub(super) fn attempts(&self) -> u32 {
        self.failed.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Patience;
    use crate::image::RegistryConfig;
    use crate::image::registry::endpoint::Endpoint;
    use crate::image::registry::trouble::Trouble;

    /// The waits of one who never succeeds, at the mirror (0) or the registry (1).
    fn waits(who: usize, trouble: &Trouble) -> Vec<Duration> {
        let mut config = RegistryConfig::new("/nowhere".into());
        config.mirrors = vec!["a.example=https://b.example".parse().expect("mirrors")];
        config.limits.attempts = 8;
        config.limits.retry_delay = Duration::from_secs(1);
        let all = Endpoint::all(&config, &"a.example/x".parse().expect("a name"));
        let mut patience = Patience::with(&all[who], &config.limits);
        std::iter::from_fn(|| patience.after(trouble)).collect()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_end() {
        let waits = waits(1, &Trouble::passing("x"));
        assert_eq!(waits.len(), 7);
        for (wait, usual) in waits.iter().zip([1, 2, 4, 8, 16, 16, 16]) {
            let usual = Duration::from_secs(usual);
            assert!(
                *wait >= usual.mul_f64(0.75) && *wait <= usual.mul_f64(1.25),
                "{wait:?}"
            );
        }
    }

    #[test]
    fn a_mirror_is_tried_twice() {
        assert_eq!(waits(0, &Trouble::passing("x")).len(), 1);
    }

    #[test]
    fn a_registry_that_says_how_long_is_believed() {
        let wait = Some(Duration::from_secs(100));
        let trouble = Trouble::Passing {
            why: "x".into(),
            wait,
        };
        assert_eq!(waits(1, &trouble)[0], Duration::from_secs(100));
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        assert!(waits(1, &Trouble::Source("x".into())).is_empty());
        assert!(waits(1, &Trouble::Request("x".into())).is_empty());
    }
}
