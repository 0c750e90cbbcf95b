//! Times, durations and foreign words in texts for people.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A text that somebody else chose, fit for one line of a terminal: what would move the cursor, change colours or start a new line
/// is shown as an escape.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// A time of the scheduler's in the local time zone, to the second.
pub(super) fn local_time(ms: u64) -> String {
    match timestamp(ms) {
        Some(time) => time
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        None => "at no time".to_owned(),
    }
}

/// The same for programs: RFC 3339 in UTC, to the millisecond.
pub(super) fn utc_time(ms: u64) -> Option<String> {
    timestamp(ms).map(|time| format!("{time:.3}"))
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// A length of time, to the second.
pub(super) fn duration(length: Duration) -> String {
    if length < Duration::from_secs(1) && !length.is_zero() {
        return format!("{}ms", length.as_millis().max(1));
    }
    humantime::format_duration(Duration::from_secs(length.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_cannot_draw_on_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}é"), "a\\u{1b}[2J\\nb\\u{9b}é");
    }

    #[test]
    fn times_for_programs() {
        assert_eq!(
            utc_time(1_700_000_000_012).as_deref(),
            Some("2023-11-14T22:13:20.012Z")
        );
        assert_eq!(utc_time(u64::MAX), None);
    }

    #[test]
    fn lengths_are_told_to_the_second() {
        let told = |ms| duration(Duration::from_millis(ms));
        assert_eq!(told(0), "0s");
        assert_eq!(told(250), "250ms");
        assert_eq!(told(3_725_900), "1h 2m 5s");
    }
}
