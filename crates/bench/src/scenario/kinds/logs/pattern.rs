//! What is in a streamed log: bytes that follow from their place in it, so that readers can compare what they get without keeping it.

use std::sync::Arc;

use anyhow::ensure;

/// Bytes after which it begins anew. It shares no factor with the sizes of pieces, so that a piece at a wrong place is noticed.
const PERIOD: usize = 1_048_573;
/// The longest piece.
pub(super) const LONGEST: usize = 1 << 20;
/// From one multiple of the golden ratio to the next, the high bits look like chance.
const STEP: u32 = 0x9e37_79b9;

/// A log of any length.
#[derive(Clone)]
pub(super) struct Pattern(Arc<[u8]>);

impl Pattern {
    pub(super) fn new() -> Self {
        let mut state = 0u32;
        let mut byte = || {
            state = state.wrapping_add(STEP);
            let mixed = (state ^ (state >> 15)).wrapping_mul(0x85eb_ca6b);
            // The highest of four bytes.
            mixed.to_be_bytes()[0]
        };
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| byte()).collect();
        // A piece that begins near the end goes on without a seam.
        bytes.extend_from_within(..LONGEST.min(PERIOD));
        Self(bytes.into())
    }

    /// The `length` bytes from `place` on; none if it is too many.
    pub(super) fn piece(&self, place: u64, length: usize) -> &[u8] {
        let start = usize::try_from(place % PERIOD as u64).unwrap_or(0);
        self.0.get(start..start + length).unwrap_or_default()
    }

    /// Compares what was read at `place`.
    ///
    /// # Errors
    /// If it is something else.
    pub(super) fn check(&self, place: u64, read: &[u8]) -> anyhow::Result<()> {
        for (places, part) in (place..).step_by(LONGEST / 2).zip(read.chunks(LONGEST / 2)) {
            ensure!(
                self.piece(places, part.len()) == part,
                "the log is not what was written, somewhere behind byte {places}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit_together_wherever_they_are_cut() {
        let pattern = Pattern::new();
        let place = PERIOD as u64 * 3 - 1000;
        let whole = pattern.piece(place, 5000);
        let mut parts = pattern.piece(place, 1234).to_vec();
        parts.extend_from_slice(pattern.piece(place + 1234, 5000 - 1234));
        assert_eq!(whole.len(), 5000);
        assert_eq!(parts, whole);
    }

    #[test]
    fn what_is_at_another_place_or_changed_is_noticed() {
        let pattern = Pattern::new();
        let mut read = pattern.piece(777, 100_000).to_vec();
        pattern.check(777, &read).unwrap();
        assert!(pattern.check(778, &read).is_err());
        read[99_999] ^= 1;
        assert!(pattern.check(777, &read).is_err());
    }
}
