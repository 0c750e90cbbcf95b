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
        // Thirteen letters of five bits hold any u64, so longer texts are refused before the loop.
        let padded = digits.len() > 1 && digits.first() == Some(&b'0');
        if digits.is_empty() || digits.len() > 13 || padded {
            return Err(form());
        }
        let mut number: u64 = 0;
        let mut check = 0;
        for byte in digits {
            let digit = digit_of(*byte).ok_or_else(form)?;
            check = check_step(check, digit);
            number = number
                .checked_mul(32)
                .and_then(|n| n.checked_add(u64::from(digit)))
                .ok_or_else(form)?;
        }
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

    proptest! {
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
