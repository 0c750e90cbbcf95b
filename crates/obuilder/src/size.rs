//! Numbers of bytes as people read them: one way for all messages and logs.

use std::fmt;

/// A number of bytes. It displays in the largest unit of which there is one, with one digit behind the point if it is not whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = units.into_iter().find(|(bits, _)| self.0 >> bits > 0);
        let Some((bits, unit)) = unit else {
            return write!(f, "{} bytes", self.0);
        };
        let whole = self.0 >> bits;
        let rest = self.0 - (whole << bits);
        if rest == 0 {
            write!(f, "{whole} {unit}")
        } else {
            // Cut rather than rounded, so that it is never said to be more than it is. Ten times less than a TiB fits.
            write!(f, "{whole}.{} {unit}", (rest * 10) >> bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_short_and_exact_where_they_can_be() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (400_000, "390.6 KiB"),
            (512 << 20, "512 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            ((1 << 30) + 1, "1.0 GiB"),
            (2 << 40, "2 TiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
