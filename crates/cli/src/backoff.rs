//! How long to wait before connecting again: soon at first, then less and less often, never in step with others.

use std::time::Duration;

use rand::Rng as _;

/// The first wait, before it is spread.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait, before it is spread.
const LONGEST: Duration = Duration::from_secs(10);
/// A connection that lasted this long starts the count anew.
const STABLE: Duration = Duration::from_secs(30);

/// The waits between attempts.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// Before the first attempt.
    #[must_use]
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait after an attempt that lasted for `lasted`, its connection included. Between half and one and a half of a value that
    /// doubles from attempt to attempt up to ten seconds.
    pub fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= STABLE {
            self.next = FIRST;
        }
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..1.5));
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_spread() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..50).map(|_| backoff.after(Duration::ZERO)).collect();
        assert!(
            waits[0] >= FIRST / 2 && waits[0] <= FIRST * 3 / 2,
            "{waits:?}"
        );
        assert!(
            waits.iter().all(|wait| *wait <= LONGEST * 3 / 2),
            "{waits:?}"
        );
        let late = &waits[10..];
        assert!(late.iter().all(|wait| *wait >= LONGEST / 2), "{waits:?}");
        assert!(
            late.iter().any(|wait| *wait != late[0]),
            "all alike: {waits:?}"
        );
    }

    #[test]
    fn a_connection_that_lasted_starts_anew() {
        let mut backoff = Backoff::new();
        for _ in 0..10 {
            backoff.after(Duration::ZERO);
        }
        assert!(backoff.after(Duration::from_secs(60)) <= FIRST * 3 / 2);
    }
}
