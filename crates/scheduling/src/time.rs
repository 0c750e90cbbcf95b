//! Points in time and calendar days, as plain numbers which the caller brings along.
//!
//! Never reads a clock: "now" is an argument of every decision.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The largest magnitude of a [`Timestamp`], in seconds: far beyond any date, and still exact to a tenth of a second.
const LIMIT: f64 = 1e15;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// A point in time: seconds since the Unix epoch, always finite, totally ordered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timestamp(f64);

impl Timestamp {
    /// Comes before every other.
    pub(crate) const EARLIEST: Timestamp = Timestamp(-LIMIT);

    /// The point `seconds` after the Unix epoch. Anything beyond ±10^15 becomes that limit, and not-a-number the epoch
    /// itself, so that a broken clock cannot break the order of a queue.
    pub fn from_secs(seconds: f64) -> Self {
        if seconds.is_nan() {
            return Self(0.0);
        }
        // Adding zero turns -0 into 0, so that equal times have one representation.
        Self(seconds.clamp(-LIMIT, LIMIT) + 0.0)
    }

    /// Seconds since the Unix epoch.
    pub fn as_secs(self) -> f64 {
        self.0
    }

    /// This time `seconds` later; saturates as [`Timestamp::from_secs`] does.
    #[must_use]
    pub fn plus(self, seconds: f64) -> Self {
        Self::from_secs(self.0 + seconds)
    }

    /// Seconds from `earlier` to this time; negative if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> f64 {
        self.0 - earlier.0
    }

    /// The UTC day this time falls on.
    pub fn day(self) -> Day {
        // The limit above keeps the quotient around 10^10, which does not fit an i32; the cast saturates.
        Day((self.0 / SECONDS_PER_DAY).floor() as i32)
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A UTC calendar day: the number of days since 1970-01-01. Written `YYYY-MM-DD`, as the database of OCluster does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// Whole days from `earlier` to this day; negative if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> i64 {
        i64::from(self.0) - i64::from(earlier.0)
    }
}

/// A day that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a day: expected YYYY-MM-DD, such as 2026-01-31")]
pub struct DayError {
    text: String,
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(i64::from(self.0));
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = DayError;

    /// # Errors
    ///
    /// If the text is not an existing day written `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, DayError> {
        let error = || DayError {
            text: text.to_owned(),
        };
        let digits = |part: &str, len: usize| -> Result<i64, DayError> {
            if part.len() != len || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(error());
            }
            part.parse().map_err(|_| error())
        };
        let mut parts = text.splitn(3, '-');
        let (Some(year), Some(month), Some(day)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        let date = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
        let number = days(date);
        // Only an existing day survives the way there and back; 30 February does not.
        if civil(number) != date {
            return Err(error());
        }
        i32::try_from(number).map(Day).map_err(|_| error())
    }
}

/// Year, month and day of a day number, in the proleptic Gregorian calendar, counted in years that begin in March so
/// that the leap day comes last.
fn civil(number: i64) -> (i64, i64, i64) {
    let shifted = number + 719_468; // Days from 0000-03-01 to 1970-01-01.
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil`] for dates that exist.
fn days((year, month, day): (i64, i64, i64)) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn days_are_written_and_read_as_dates() {
        for (number, text) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (20_454, "2026-01-01"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(Day(number).to_string(), text);
            assert_eq!(text.parse::<Day>().unwrap(), Day(number));
        }
        assert_eq!(Timestamp::from_secs(1.0).day(), Day(0));
        assert_eq!(
            Timestamp::from_secs(86_400.0 * 11_016.0 + 5.0).day(),
            Day(11_016)
        );
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02-30",
            "2026-13-01",
            "2026-1-1",
            "20a6-01-01",
            "2026-01-01T",
            "+026-01-01",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_broken_clock_cannot_break_the_order() {
        assert_eq!(Timestamp::from_secs(f64::NAN), Timestamp::from_secs(0.0));
        assert_eq!(Timestamp::from_secs(-0.0), Timestamp::from_secs(0.0));
        assert!(Timestamp::from_secs(f64::INFINITY).as_secs().is_finite());
        assert!(
            Timestamp::from_secs(1.0)
                .plus(f64::INFINITY)
                .as_secs()
                .is_finite()
        );
    }
}
