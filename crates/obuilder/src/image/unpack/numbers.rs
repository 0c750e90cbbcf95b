//! Fields of a tar header and records of a PAX header, as POSIX and GNU tar write them.
//!
//! The library at hand splits PAX records at line feeds, which values may contain, and refuses empty numbers, which old programs write.

use super::UnpackError;

/// A numeric field: octal digits between spaces and NULs, nothing for zero, or, where the first bit is set, a big-endian binary number
/// (in two's complement, as GNU tar extends it).
pub(super) fn number(field: &[u8]) -> Result<i64, UnpackError> {
    let wrong = || UnpackError::Damaged("a number in a header is none".to_owned());
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let mut value = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
            for byte in rest {
                value = value
                    .checked_mul(256)
                    .and_then(|value| value.checked_add(i128::from(*byte)))
                    .ok_or_else(wrong)?;
            }
            i64::try_from(value).map_err(|_| wrong())
        }
        _ => {
            let end = field.iter().position(|byte| *byte == 0);
            let text = field.get(..end.unwrap_or(field.len())).unwrap_or_default();
            let text = text.trim_ascii();
            if text.is_empty() {
                return Ok(0);
            }
            let digits = std::str::from_utf8(text).map_err(|_| wrong())?;
            i64::from_str_radix(digits, 8).map_err(|_| wrong())
        }
    }
}

/// A time in seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// A time of a PAX record: decimal seconds, perhaps negative, perhaps with a fraction.
pub(super) fn time(text: &[u8]) -> Result<Time, UnpackError> {
    let wrong = || UnpackError::Damaged("a time in a header is none".to_owned());
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Ok(if whole.starts_with('-') && nanoseconds > 0 {
        Time {
            seconds: seconds.checked_sub(1).ok_or_else(wrong)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }
    } else {
        Time {
            seconds,
            nanoseconds,
        }
    })
}

/// The records `LENGTH KEY=VALUE\n` of a PAX header, in order.
pub(super) fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>, UnpackError> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let (record, rest) = record(data)
            .ok_or_else(|| UnpackError::Damaged("a PAX record is malformed".to_owned()))?;
        records.push(record);
        data = rest;
    }
    Ok(records)
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn record(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let digits = data.get(..space)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    Some(((key, value.get(1..)?), data.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"        ").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0").unwrap(), 256);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe").unwrap(), -2);
        assert!(number(b"0000648\0").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        let at = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        assert_eq!(
            time(b"1350244992.023960108").unwrap(),
            at(1350244992, 23960108)
        );
        assert_eq!(time(b"12").unwrap(), at(12, 0));
        assert_eq!(time(b"-1.25").unwrap(), at(-2, 750_000_000));
        assert_eq!(time(b"1.0000000019").unwrap(), at(1, 1));
        for wrong in [&b"x"[..], b"", b"1.x", b"1.-2", b"99999999999999999999"] {
            assert!(time(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn records_may_hold_line_feeds_and_equal_signs() {
        let data = b"10 a=b\nc=\n6 d=\xff\n";
        assert_eq!(
            records(data).unwrap(),
            [(&b"a"[..], &b"b\nc="[..]), (b"d", b"\xff")]
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for wrong in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"5 ab\n\n",
            b"+6 a=b\n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(records(wrong).is_err(), "{wrong:?}");
        }
    }
}
