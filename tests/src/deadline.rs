//! The one way to wait: ask again until the answer is there, and give up loudly at a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt::check_interrupt;

/// A limit for things that normally take a moment, wide enough for a loaded two-core machine.
pub const SOON: Duration = Duration::from_secs(60);

/// How long to wait between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Calls `probe` until it gives a value, and returns that value.
///
/// # Errors
///
/// When `limit` has passed, naming `what` was waited for; when `probe` fails; when the user interrupts.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        check_interrupt()?;
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("waited {} seconds in vain for {what}", limit.as_secs());
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_first_value_ends_the_wait() {
        let mut looks = 0;
        let value = wait_for("three looks", SOON, || {
            looks += 1;
            Ok((looks == 3).then_some("there"))
        });
        assert_eq!(value.unwrap(), "there");
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_wait_in_vain_names_what_was_missing() {
        let error = wait_for("a miracle", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 seconds in vain for a miracle");
    }
}
