//! How often and how fast something is tried again at one registry.

use std::time::Duration;

use rand::Rng as _;

use super::RegistryLimits;
use super::endpoint::Endpoint;
use super::trouble::Trouble;

/// How many attempts a mirror has: there is somebody else to ask.
const MIRROR_ATTEMPTS: u32 = 2;
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
        let doubled = self.delay * (1 << (self.failed - 1).min(MAX_DOUBLINGS));
        // Many workers that lose a registry at once are not to come back at once.
        let ours = doubled.mul_f64(rand::rng().random_range(0.75..1.25));
        Some(wait.map_or(ours, |wait| wait.max(ours)))
    }

    /// Whether more than one attempt failed for good, for a message.
    pub(super) fn attempts(&self) -> u32 {
        self.failed.max(1)
    }
}
