//! When room is short: plain numbers in, a sentence or nothing out. No I/O, no clock.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What the operator asked for: when the worker prunes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DiskLimit {
    /// When less than this share of the disk below the engine's root directory is free, in blocks or in inodes.
    Free(FreePercent),
    /// When the engine's images take more than this.
    Images(ImagesSize),
}

/// A share of a disk, in percent: 0 to 100. With 0 no disk is ever short of room, with 100 every disk is that holds a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FreePercent(f64);

/// A size of all images together, in bytes. Written in GB of 10^9 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagesSize(u64);

/// A limit that cannot be one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DiskLimitError {
    /// Not a number, or not a share.
    #[error("prune_threshold must be in the range 0 to 100")]
    Percent,
    /// Not a number, or not a size.
    #[error("the size of the images must be a number of GB that is not negative")]
    Size,
}

impl FromStr for FreePercent {
    type Err = DiskLimitError;

    fn from_str(text: &str) -> Result<Self, DiskLimitError> {
        match text.parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent)),
            _ => Err(DiskLimitError::Percent),
        }
    }
}

impl ImagesSize {
    /// This many bytes.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl FromStr for ImagesSize {
    type Err = DiskLimitError;

    fn from_str(gigabytes: &str) -> Result<Self, DiskLimitError> {
        match gigabytes.parse::<f64>() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and what is too large becomes the largest size"
            )]
            Ok(number) if number >= 0.0 => Ok(Self((number * 1e9) as u64)),
            _ => Err(DiskLimitError::Size),
        }
    }
}

/// How much of one thing a disk has: blocks or inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Supply {
    pub(crate) total: u64,
    pub(crate) free: u64,
    /// What an ordinary user gets of `free`: less, if some is reserved for root.
    pub(crate) available: u64,
}

impl Supply {
    /// What is left, in percent of what ordinary users could ever have: the formula of `df`, and of OCluster. A file system that
    /// counts nothing, as btrfs does with inodes, never runs out of it.
    pub(crate) fn free_percent(self) -> f64 {
        let used = self.total.saturating_sub(self.free);
        let usable = u128::from(used) + u128::from(self.available);
        if usable == 0 {
            return 100.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share needs no more than 15 digits"
        )]
        let used_share = used as f64 / usable as f64;
        100.0 - 100.0 * used_share
    }
}

/// How much room a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) blocks: Supply,
    pub(crate) inodes: Supply,
}

/// That room is short, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage(String);

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FreePercent {
    /// Whether `space` is short of blocks or of inodes.
    pub(crate) fn shortage(self, space: &Space) -> Option<Shortage> {
        let (blocks, inodes) = (space.blocks.free_percent(), space.inodes.free_percent());
        (blocks.min(inodes) < self.0).then(|| {
            Shortage(format!(
                "{blocks:.1}% of the space and {inodes:.1}% of the inodes below Docker's root directory are free, and {}% should be",
                self.0
            ))
        })
    }
}

impl ImagesSize {
    /// Whether images of `bytes` altogether are too much.
    pub(crate) fn shortage(self, bytes: u64) -> Option<Shortage> {
        (bytes > self.0).then(|| {
            Shortage(format!(
                "Docker's images take {}, which is more than {}",
                gigabytes(bytes),
                gigabytes(self.0)
            ))
        })
    }
}

/// `bytes` for people.
pub(super) fn gigabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three decimals are shown")]
    let gigabytes = bytes as f64 / 1e9;
    format!("{gigabytes:.3} GB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(total: u64, free: u64, available: u64) -> Supply {
        Supply {
            total,
            free,
            available,
        }
    }

    fn percent(text: &str) -> FreePercent {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_reserved_for_root_is_nobodys() {
        // 60 used, 40 free, of which root keeps 20: 20 of 80 are left.
        assert_eq!(supply(100, 40, 20).free_percent(), 25.0);
        assert_eq!(supply(100, 40, 40).free_percent(), 40.0);
        assert_eq!(supply(100, 100, 95).free_percent(), 100.0);
        assert_eq!(supply(100, 5, 0).free_percent(), 0.0);
    }

    #[test]
    fn odd_file_systems_give_a_share_all_the_same() {
        assert_eq!(supply(0, 0, 0).free_percent(), 100.0);
        // More free than there is.
        assert_eq!(supply(10, 20, 20).free_percent(), 100.0);
        let huge = supply(u64::MAX, u64::MAX / 2, u64::MAX / 2).free_percent();
        assert!((huge - 50.0).abs() < 1e-9, "{huge}");
    }

    #[test]
    fn either_blocks_or_inodes_may_be_short() {
        let plenty = supply(100, 80, 80);
        let few = supply(100, 10, 10);
        let space = |blocks, inodes| Space { blocks, inodes };
        let limit = percent("20");
        assert_eq!(limit.shortage(&space(plenty, plenty)), None);
        assert_eq!(
            limit.shortage(&space(few, plenty)).unwrap().to_string(),
            "10.0% of the space and 80.0% of the inodes below Docker's root directory are free, and 20% should be"
        );
        assert!(limit.shortage(&space(plenty, few)).is_some());
        // Exactly the limit is enough.
        assert_eq!(percent("10").shortage(&space(few, plenty)), None);
        assert!(percent("10.5").shortage(&space(few, plenty)).is_some());
        assert_eq!(percent("0").shortage(&space(few, few)), None);
        assert!(percent("100").shortage(&space(plenty, plenty)).is_some());
    }

    #[test]
    fn a_share_is_a_number_from_0_to_100() {
        for good in ["0", "20", "30.5", "100"] {
            assert!(good.parse::<FreePercent>().is_ok(), "{good}");
        }
        for bad in ["-1", "100.1", "NaN", "inf", "", "20%", "many"] {
            let error = bad.parse::<FreePercent>().unwrap_err();
            assert_eq!(
                error.to_string(),
                "prune_threshold must be in the range 0 to 100",
                "{bad}"
            );
        }
    }

    #[test]
    fn d11_sizes_beyond_a_terabyte_are_sizes_like_others() {
        let limit: ImagesSize = "1500".parse().unwrap();
        assert_eq!(limit, ImagesSize::from_bytes(1_500_000_000_000));
        assert_eq!(limit.shortage(1_500_000_000_000), None);
        assert_eq!(
            limit.shortage(1_500_001_000_000).unwrap().to_string(),
            "Docker's images take 1500.001 GB, which is more than 1500.000 GB"
        );
        assert!(limit.shortage(u64::MAX).is_some());
        assert_eq!(
            "0.5".parse::<ImagesSize>().unwrap(),
            ImagesSize::from_bytes(500_000_000)
        );
        for bad in ["-1", "NaN", "", "5GB"] {
            assert_eq!(
                bad.parse::<ImagesSize>().unwrap_err(),
                DiskLimitError::Size,
                "{bad}"
            );
        }
    }
}
