//! Sizes as Docker prints them: decimal units, four significant digits.

const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// `bytes` for people: `2.048kB`.
pub(super) fn human_size(bytes: u64) -> String {
    // A context of more than 2^53 bytes may lose its last digit, which is not printed anyway.
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let whole_digits = if size < 10.0 {
        1
    } else if size < 100.0 {
        2
    } else {
        3
    };
    let mut digits = format!("{size:.*}", 4 - whole_digits);
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{digits}{}", UNITS.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn sizes_read_as_docker_prints_them() {
        let sizes = [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (2048, "2.048kB"),
            (10_752, "10.75kB"),
            (999_949, "999.9kB"),
            (999_999, "1000kB"),
            (1_500_000, "1.5MB"),
            (8_589_934_592, "8.59GB"),
            (u64::MAX, "18.45EB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(human_size(bytes), text);
        }
    }
}
