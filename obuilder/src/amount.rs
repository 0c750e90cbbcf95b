//! Numbers of bytes as people read them.

/// So many bytes, in the decimal unit that leaves one to three digits before the point.
pub(crate) fn amount(bytes: u64) -> String {
    let tenths = |of_unit: u64, unit: &str| {
        let tenths = bytes / (of_unit / 10);
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => tenths(1_000, "kB"),
        1_000_000..1_000_000_000 => tenths(1_000_000, "MB"),
        1_000_000_000..1_000_000_000_000 => tenths(1_000_000_000, "GB"),
        _ => tenths(1_000_000_000_000, "TB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let shown = [0, 999, 1_000, 1_999_999, 200_000_000, 64 << 30, 5 << 50].map(amount);
        assert_eq!(
            shown,
            [
                "0 B",
                "999 B",
                "1.0 kB",
                "1.9 MB",
                "200.0 MB",
                "68.7 GB",
                "5629.4 TB"
            ]
        );
    }
}
