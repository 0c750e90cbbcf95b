//! The one way in which the programs read durations: `90s`, `15m`, `1h 30m`, `2d`.

use std::time::Duration;

use thiserror::Error;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a duration: write a number with a unit, such as 90s, 15m, 1h 30m or 2d ({reason})"
)]
pub struct DurationError {
    /// What was given.
    text: String,
    /// What is wrong with it.
    reason: String,
}

/// Reads a duration. Fit to be a clap value parser.
///
/// # Errors
/// When a number or a unit is missing or unknown, or the whole does not fit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    humantime::parse_duration(text).map_err(|error| DurationError {
        text: text.to_owned(),
        reason: error.to_string().to_lowercase(),
    })
}

/// Writes a duration the way [`parse_duration`] reads it, in whole seconds if it is at least one.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let shown = if duration >= Duration::from_secs(1) {
        Duration::from_secs(duration.as_secs())
    } else {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    humantime::format_duration(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(show_duration(Duration::from_millis(5_400_250)), "1h 30m");
        assert_eq!(show_duration(Duration::from_micros(250_100)), "250ms");
    }

    #[test]
    fn says_what_a_duration_looks_like() {
        for wrong in ["", "10", "soon", "10 parsecs", "-5s"] {
            let error = parse_duration(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!(
                    "{wrong:?} is not a duration: write a number with a unit"
                )),
                "{error}"
            );
        }
    }
}
