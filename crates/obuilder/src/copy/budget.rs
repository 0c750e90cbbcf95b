//! How much one `copy` may take: what is found is kept in memory until it is written, so it must not be without bound.

use super::CopyError;
use crate::size::Size;

/// The most files, links and directories that one `copy` may take.
pub const MAX_COPY_ITEMS: usize = 1_000_000;

/// The most bytes that the paths of what one `copy` takes, and what its links hold, may have together: 256 MiB. A path is relative to
/// the top of the tree that is copied from, so this allows for 268 bytes per item even if there are as many as there may be.
pub const MAX_COPY_PATH_BYTES: usize = 256 << 20;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Budget {
    items: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            items: MAX_COPY_ITEMS,
            bytes: MAX_COPY_PATH_BYTES,
        }
    }
}

impl Budget {
    #[cfg(test)]
    pub(super) const fn of(items: usize, bytes: usize) -> Self {
        Self { items, bytes }
    }

    /// Spends it on an item with a path of `length` bytes.
    pub(super) fn item(&mut self, length: usize) -> Result<(), CopyError> {
        self.items = self.items.checked_sub(1).ok_or_else(|| {
            refused(format_args!(
                "{MAX_COPY_ITEMS} files, links and directories"
            ))
        })?;
        self.text(length)
    }

    /// Spends it on `length` bytes.
    pub(super) fn text(&mut self, length: usize) -> Result<(), CopyError> {
        self.bytes = self.bytes.checked_sub(length).ok_or_else(|| {
            let most = Size(MAX_COPY_PATH_BYTES as u64);
            refused(format_args!("paths of {most} in all"))
        })?;
        Ok(())
    }
}

fn refused(limit: std::fmt::Arguments<'_>) -> CopyError {
    CopyError::Request(format!(
        "one copy can take at most {limit}; leave some out with (exclude ...), or copy them with several operations"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_too_many_items_or_too_long_paths_is_refused() {
        let mut budget = Budget::default();
        for _ in 0..MAX_COPY_ITEMS {
            budget.item(268).unwrap();
        }
        let error = budget.item(0).unwrap_err().to_string();
        assert!(
            error.starts_with("one copy can take at most 1000000 files, links and directories; "),
            "{error}"
        );

        let mut budget = Budget::default();
        budget.item(MAX_COPY_PATH_BYTES - 1).unwrap();
        budget.text(1).unwrap();
        let error = budget.item(1).unwrap_err().to_string();
        assert!(
            error.starts_with("one copy can take at most paths of 256 MiB in all; "),
            "{error}"
        );
    }
}
