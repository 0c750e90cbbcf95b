//! Trying again: how often, and after which waits.
//!
//! This decides only. Its user makes the attempts and waits between them, holding no locks while it does; to stop, it just stops.

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

/// How often something is tried again, and after which waits.
///
/// The waits double from `first` up to `longest`. Each is then shortened at random, to no less than its half, so that those who
/// failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many attempts may follow the first; 0 for none.
    pub times: u32,
    /// The wait before the first retry, before it is shortened.
    pub first: Duration,
    /// The longest wait, before it is shortened.
    pub longest: Duration,
}

impl Default for Retries {
    /// Six attempts within about two minutes.
    fn default() -> Self {
        Self {
            times: 5,
            first: Duration::from_secs(4),
            longest: Duration::from_secs(60),
        }
    }
}

impl Retries {
    /// The wait before retry number `retry`, of which 1 is the first; `share` is between 0 and 1.
    fn wait(self, retry: u32, share: f64) -> Duration {
        let doublings = retry.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
    }
}

/// How an attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble<E> {
    /// It may go better a moment later.
    Retryable(E),
    /// It will not.
    Fatal(E),
}

/// What comes after an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Next<T, E> {
    /// Nothing: it went well.
    Done(T),
    /// Another attempt, after a wait.
    Again(Again<E>),
}

/// Another attempt.
#[derive(Debug, PartialEq)]
pub(super) struct Again<E> {
    /// The number of the attempt that failed; 1 is the first.
    attempt: u32,
    /// How many attempts there may be in all.
    of: u32,
    error: E,
    wait: Duration,
}

impl<E> Again<E> {
    /// Waits until it is time. Nothing is lost when this is dropped.
    pub(super) async fn wait(&self) {
        sleep(self.wait).await;
    }
}

impl<E: fmt::Display> fmt::Display for Again<E> {
    /// OCluster's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "attempt {}/{} failed with retryable error \"{}\". Retrying in {:.1} seconds...",
            self.attempt,
            self.of,
            self.error,
            self.wait.as_secs_f64()
        )
    }
}

/// There is no other attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GaveUp<E> {
    /// How many attempts were made.
    pub(super) attempts: u32,
    /// Whether the last one's error was such that another would not help.
    pub(super) fatal: bool,
    /// What the last one failed with.
    pub(super) error: E,
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.fatal, self.attempts) {
            (true, _) | (false, 1) => self.error.fmt(f),
            (false, attempts) => write!(f, "{} (gave up after {attempts} attempts)", self.error),
        }
    }
}

/// Counts the attempts at one thing.
#[derive(Debug)]
pub(super) struct Attempts {
    retries: Retries,
    made: u32,
}

impl Attempts {
    pub(super) fn new(retries: Retries) -> Self {
        Self { retries, made: 0 }
    }

    /// Takes note of an attempt's result and says what comes next.
    ///
    /// # Errors
    /// The attempt's error, if it was fatal or the last.
    pub(super) fn judge<T, E>(
        &mut self,
        result: Result<T, Trouble<E>>,
    ) -> Result<Next<T, E>, GaveUp<E>> {
        self.made = self.made.saturating_add(1);
        let (error, fatal) = match result {
            Ok(value) => return Ok(Next::Done(value)),
            Err(Trouble::Fatal(error)) => (error, true),
            Err(Trouble::Retryable(error)) => (error, false),
        };
        if fatal || self.made > self.retries.times {
            return Err(GaveUp {
                attempts: self.made,
                fatal,
                error,
            });
        }
        Ok(Next::Again(Again {
            attempt: self.made,
            of: self.retries.times.saturating_add(1),
            error,
            wait: self.retries.wait(self.made, rand::random()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;

    type Result = std::result::Result<&'static str, Trouble<&'static str>>;
    const AGAIN: Result = Err(Trouble::Retryable("busy"));
    const FATAL: Result = Err(Trouble::Fatal("forbidden"));
    const SUCCESS: Result = Ok("pushed");

    fn up_to(times: u32) -> Attempts {
        Attempts::new(Retries {
            times,
            ..Retries::default()
        })
    }

    /// How it ends, and the numbers of the attempts that were followed by another.
    fn ends(
        times: u32,
        results: impl IntoIterator<Item = Result>,
    ) -> (
        Option<std::result::Result<&'static str, GaveUp<&'static str>>>,
        Vec<u32>,
    ) {
        let (mut attempts, mut retried) = (up_to(times), Vec::new());
        for result in results {
            match attempts.judge(result) {
                Ok(Next::Done(value)) => return (Some(Ok(value)), retried),
                Ok(Next::Again(again)) => retried.push(again.attempt),
                Err(gave_up) => return (Some(Err(gave_up)), retried),
            }
        }
        (None, retried)
    }

    fn fatal_at(attempts: u32) -> std::result::Result<&'static str, GaveUp<&'static str>> {
        Err(GaveUp {
            attempts,
            fatal: true,
            error: "forbidden",
        })
    }

    #[test]
    fn errors_are_formatted_for_people() {
        let again = Again {
            attempt: 2,
            of: 6,
            error: "busy",
            wait: Duration::from_millis(7440),
        };
        assert_eq!(
            again.to_string(),
            "attempt 2/6 failed with retryable error \"busy\". Retrying in 7.4 seconds..."
        );
        let gave_up = |attempts, fatal| GaveUp {
            attempts,
            fatal,
            error: "busy",
        };
        assert_eq!(gave_up(3, true).to_string(), "busy");
        assert_eq!(gave_up(1, false).to_string(), "busy");
        assert_eq!(
            gave_up(6, false).to_string(),
            "busy (gave up after 6 attempts)"
        );
    }

    #[test]
    fn success_yields_one_attempt() {
        assert_eq!(ends(5, [SUCCESS]), (Some(Ok("pushed")), vec![]));
    }

    #[test]
    fn retries_are_numbered_one_two_three() {
        assert_eq!(ends(5, [AGAIN, AGAIN, AGAIN]), (None, vec![1, 2, 3]));
    }

    #[test]
    fn retries_then_fatal_ends_at_the_fatal_attempt() {
        let (end, retried) = ends(5, [AGAIN, AGAIN, AGAIN, FATAL, SUCCESS]);
        assert_eq!((end, retried), (Some(fatal_at(4)), vec![1, 2, 3]));
    }

    #[test]
    fn retries_then_success_ends_with_the_success() {
        let (end, retried) = ends(5, [AGAIN, AGAIN, AGAIN, SUCCESS, FATAL]);
        assert_eq!((end, retried), (Some(Ok("pushed")), vec![1, 2, 3]));
    }

    #[test]
    fn no_retries_still_tries_once() {
        assert_eq!(ends(0, [SUCCESS]), (Some(Ok("pushed")), vec![]));
        let exhausted = Err(GaveUp {
            attempts: 1,
            fatal: false,
            error: "busy",
        });
        assert_eq!(ends(0, [AGAIN]), (Some(exhausted), vec![]));
    }

    #[test]
    fn a_fatal_error_tells_that_it_was_attempt_four() {
        let (end, _) = ends(5, [AGAIN, AGAIN, AGAIN, FATAL]);
        assert_eq!(end.unwrap().unwrap_err().attempts, 4);
    }

    #[test]
    fn five_retries_are_exhausted_after_attempt_six() {
        let (end, retried) = ends(5, std::iter::repeat_with(|| AGAIN));
        let exhausted = GaveUp {
            attempts: 6,
            fatal: false,
            error: "busy",
        };
        assert_eq!((end, retried), (Some(Err(exhausted)), vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn eventual_success_is_found() {
        let results = std::iter::repeat_with(|| AGAIN).take(50).chain([SUCCESS]);
        assert_eq!(ends(50, results).0, Some(Ok("pushed")));
    }

    async fn make_all(retries: Retries) -> GaveUp<&'static str> {
        let mut attempts = Attempts::new(retries);
        loop {
            match attempts.judge(AGAIN) {
                Ok(Next::Again(again)) => again.wait().await,
                Ok(Next::Done(_)) => panic!("no attempt went well"),
                Err(gave_up) => return gave_up,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sleeping_really_delays_and_never_after_the_last_attempt() {
        let seconds = Duration::from_secs;
        let start = Instant::now();
        assert_eq!(make_all(Retries::default()).await.attempts, 6);
        // 4 + 8 + 16 + 32 + 60 at most, half of it at least, and nothing after the sixth attempt.
        let took = start.elapsed();
        assert!(took >= seconds(60) && took <= seconds(121), "{took:?}");
        let start = Instant::now();
        let once = Retries {
            times: 0,
            ..Retries::default()
        };
        assert_eq!(make_all(once).await.attempts, 1);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_during_the_sleep_ends_it_at_once() {
        let cancel = CancellationToken::new();
        let start = Instant::now();
        let stop = async {
            sleep(Duration::from_millis(1500)).await;
            cancel.cancel();
        };
        let trying = cancel.run_until_cancelled(make_all(Retries::default()));
        let (ended, ()) = tokio::join!(trying, stop);
        assert_eq!(ended, None);
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn waits_grow_to_a_bound_and_are_spread() {
        let retries = Retries::default();
        let waits = |share| {
            (1..=7)
                .map(|retry| retries.wait(retry, share).as_secs())
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(1.0), [4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(waits(0.0), [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(retries.wait(u32::MAX, 1.0), retries.longest);
    }
}
