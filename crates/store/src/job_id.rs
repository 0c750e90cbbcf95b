//! Job ids: a growing number inside, a short text with a check letter outside.
//!
//! Ids lie close together, so a mistyped one would often name another job. The check letter catches every single
//! wrong letter and every swap of two neighbours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A job's id.
///
/// Its text is `j`, the number in base 32 (digits and lower-case letters without `i`, `l`, `o`, `u`), and one check
/// letter: `j12` is job 1. Reading accepts upper case, and `o`, `i`, `l` for the digits they look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(u64);

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// One step of the check: doubles in GF(32) with the polynomial x^5 + x^2 + 1. Doubling moves every element but zero,
/// which is why `check = double(check + digit)` notices a changed digit and a swap of neighbours.
fn check_step(check: u8, digit: u8) -> u8 {
    let sum = check ^ digit;
    let doubled = sum << 1;
    if doubled & 0x20 == 0 {
        doubled
    } else {
        doubled ^ 0x25
    }
}

impl JobId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, for keys and file names.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A text as an id is printed: in lower case, with `o`, `i` and `l` as the digits they look like.
    #[must_use]
    pub fn normalise(text: &str) -> String {
        text.chars()
            .map(|letter| match letter.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                other => other,
            })
            .collect()
    }

    /// The ranges of ids, both ends included, in which every id lies whose text begins with `text`, lowest first.
    ///
    /// Other ids lie in them too: keep those whose text begins with [`normalise(text)`](Self::normalise). A prefix can
    /// end before the check letter or include it.
    ///
    /// # Errors
    /// [`ParseJobIdError::Form`] when no id can begin so, or when there is no digit after the `j`.
    pub fn prefix_ranges(text: &str) -> Result<Vec<(Self, Self)>, ParseJobIdError> {
        let form = || ParseJobIdError::Form(text.chars().take(40).collect());
        let body = text.strip_prefix(['j', 'J']).ok_or_else(form)?;
        // Thirteen digits hold any number, and one check letter follows.
        if body.is_empty() || body.len() > MAX_DIGITS + 1 {
            return Err(form());
        }
        let digits: Vec<u8> = body
            .bytes()
            .map(|byte| digit_of(byte).ok_or_else(form))
            .collect::<Result<_, _>>()?;
        let mut ranges = Vec::new();
        if let Some((check, before)) = digits.split_last()
            && let Some((number, expected)) = number_of(before)
            && *check == expected
        {
            ranges.push((Self(number), Self(number)));
        }
        if let Some((number, _)) = number_of(&digits) {
            let more = if number == 0 {
                0
            } else {
                MAX_DIGITS - digits.len()
            };
            for place in 0..=more {
                let width = 5 * u32::try_from(place).unwrap_or(u32::MAX);
                let first = u128::from(number) << width;
                let last = first + ((1u128 << width) - 1);
                let Ok(first) = u64::try_from(first) else {
                    break;
                };
                let last = u64::try_from(last).unwrap_or(u64::MAX);
                ranges.push((Self(first), Self(last)));
            }
        }
        Ok(ranges)
    }
}

/// Digits of the longest id.
const MAX_DIGITS: usize = 13;

/// The number that these digits are, and its check. `None`: no id is written so.
fn number_of(digits: &[u8]) -> Option<(u64, u8)> {
    let padded = digits.len() > 1 && digits.first() == Some(&0);
    if digits.is_empty() || digits.len() > MAX_DIGITS || padded {
        return None;
    }
    let mut number: u64 = 0;
    let mut check = 0;
    for digit in digits {
        check = check_step(check, *digit);
        number = number.checked_mul(32)?.checked_add(u64::from(*digit))?;
    }
    Some((number, check))
}

/// The first id a new state directory hands out.
impl Default for JobId {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter =
            |digit: u8| char::from(LETTERS.get(usize::from(digit)).copied().unwrap_or(b'0'));
        let digits = (64 - self.0.leading_zeros()).div_ceil(5).max(1);
        let mut text = String::with_capacity(15);
        text.push('j');
        let mut check = 0;
        for place in (0..digits).rev() {
            let digit = u8::try_from((self.0 >> (place * 5)) & 31).unwrap_or(0);
            check = check_step(check, digit);
            text.push(letter(digit));
        }
        text.push(letter(check));
        f.pad(&text)
    }
}

/// A text that is no job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseJobIdError {
    /// The text does not look like a job id at all.
    #[error("{0:?} is not a job id; a job id looks like j31n03")]
    Form(String),
    /// The text looks like one, but its check letter is wrong.
    #[error(
        "{0:?} is not a job id: its last letter does not fit the others; compare it with the printed one"
    )]
    Check(String),
}

fn digit_of(byte: u8) -> Option<u8> {
    let plain = match byte.to_ascii_lowercase() {
        b'o' => b'0',
        b'i' | b'l' => b'1',
        other => other,
    };
    let place = LETTERS.iter().position(|letter| *letter == plain)?;
    u8::try_from(place).ok()
}

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseJobIdError::Form(text.chars().take(40).collect());
        let body = text.strip_prefix(['j', 'J']).ok_or_else(form)?;
        let (last, digits) = body.as_bytes().split_last().ok_or_else(form)?;
        let expected = digit_of(*last).ok_or_else(form)?;
        // Checked before the loop, so that a long text costs nothing.
        if digits.len() > MAX_DIGITS {
            return Err(form());
        }
        let digits: Vec<u8> = digits
            .iter()
            .map(|byte| digit_of(*byte).ok_or_else(form))
            .collect::<Result<_, _>>()?;
        let (number, check) = number_of(&digits).ok_or_else(form)?;
        if check != expected {
            return Err(ParseJobIdError::Check(text.to_owned()));
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_ids_as_people_see_them() {
        let texts: Vec<String> = [0, 1, 2, 31, 32, 100_000, u64::MAX]
            .map(|n| JobId::new(n).to_string())
            .into();
        assert_eq!(
            texts,
            [
                "j00",
                "j12",
                "j24",
                "jzv",
                "j104",
                "j31n03",
                "jfzzzzzzzzzzzzx"
            ]
        );
    }

    #[test]
    fn texts_that_are_no_ids_are_refused_with_a_hint() {
        for text in [
            "",
            "j",
            "j1",
            "12",
            "x12",
            "j1!",
            "j012",
            "jzzzzzzzzzzzzzz",
            "jé2",
        ] {
            let error = text.parse::<JobId>().unwrap_err();
            assert!(matches!(error, ParseJobIdError::Form(_)), "{text}: {error}");
        }
        assert_eq!(
            "j13".parse::<JobId>().unwrap_err().to_string(),
            "\"j13\" is not a job id: its last letter does not fit the others; compare it with the printed one"
        );
    }

    #[test]
    fn look_alikes_are_read_as_what_they_look_like() {
        assert_eq!("Jl2".parse::<JobId>().unwrap(), JobId::new(1));
        assert_eq!("jI2".parse::<JobId>().unwrap(), JobId::new(1));
        assert_eq!("j1O4".parse::<JobId>().unwrap(), JobId::new(32));
    }

    #[test]
    fn a_few_beginnings_as_people_type_them() {
        let ranges = |text: &str| -> Vec<(u64, u64)> {
            let found = JobId::prefix_ranges(text).unwrap();
            found.iter().map(|(a, b)| (a.get(), b.get())).collect()
        };
        assert_eq!(ranges("j0"), [(0, 0)]);
        assert_eq!(ranges("j00"), [(0, 0)]);
        assert_eq!(ranges("j01"), []);
        assert_eq!(ranges("J12")[..2], [(1, 1), (34, 34)]);
        assert_eq!(ranges("j1")[..3], [(1, 1), (32, 63), (1024, 2047)]);
        assert_eq!(ranges("jfzzzzzzzzzzzz"), [(u64::MAX, u64::MAX)]);
        assert_eq!(ranges("jfzzzzzzzzzzzzx"), [(u64::MAX, u64::MAX)]);
        assert_eq!(JobId::normalise("JlOi"), "j101");
        for text in ["", "j", "x1", "j!", "ju", "j12345678901234x", "jé"] {
            let refused = JobId::prefix_ranges(text);
            assert!(matches!(refused, Err(ParseJobIdError::Form(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_id_is_found_by_each_of_its_beginnings(n: u64, shift in 0u32..64) {
            let id = JobId::new(n >> shift);
            let text = id.to_string();
            for length in 2..=text.len() {
                let ranges = JobId::prefix_ranges(&text[..length].to_uppercase()).unwrap();
                prop_assert!(ranges.is_sorted_by(|a, b| a.1 < b.0));
                prop_assert!(ranges.iter().any(|(a, b)| (a..=b).contains(&&id)), "{text} by {length}");
            }
            // And a beginning of digits alone finds nothing else among numbers of the same length.
            let own = JobId::prefix_ranges(&text[..text.len() - 1]).unwrap();
            prop_assert!(own.contains(&(id, id)));
        }

        #[test]
        fn every_id_reads_back(n: u64) {
            prop_assert_eq!(JobId::new(n).to_string().parse::<JobId>().unwrap(), JobId::new(n));
        }

        #[test]
        fn a_wrong_letter_or_a_swap_is_noticed(n: u64, place: prop::sample::Index, letter in 0usize..32) {
            let right = JobId::new(n).to_string().into_bytes();
            let place = 1 + place.index(right.len() - 1);
            let mut wrong = right.clone();
            wrong[place] = LETTERS[letter];
            if wrong != right {
                prop_assert!(std::str::from_utf8(&wrong).unwrap().parse::<JobId>().is_err());
            }
            if place + 1 < right.len() {
                let mut swapped = right.clone();
                swapped.swap(place, place + 1);
                if swapped != right {
                    prop_assert!(std::str::from_utf8(&swapped).unwrap().parse::<JobId>().is_err());
                }
            }
        }
    }
}
