//! The one way in which the programs read sizes: `1048576`, `64k`, `20M`, `1G`.

use thiserror::Error;

/// Why a text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a size in bytes, such as 1048576, 64k, 20M or 1G")]
pub struct SizeError;

/// Reads a number of bytes, or thousands, millions and so on of 1024 with k, M, G, T. Fit to be a clap value parser.
///
/// # Errors
/// When it is no such number, or does not fit.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.strip_suffix(['k', 'K']), 10),
        Some(b'M') => (text.strip_suffix('M'), 20),
        Some(b'G') => (text.strip_suffix('G'), 30),
        Some(b'T') => (text.strip_suffix('T'), 40),
        _ => (Some(text), 0),
    };
    let number: u64 = digits.unwrap_or_default().parse().map_err(|_| SizeError)?;
    number.checked_mul(1 << shift).ok_or(SizeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("64k"), Ok(65536));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        for wrong in ["", "k", "1GB", "-1", "1.5G", "99999999999T"] {
            assert_eq!(parse_size(wrong), Err(SizeError), "{wrong}");
        }
    }
}
