//! Finds out what a `copy` of a spec takes.

use std::os::fd::{AsFd as _, BorrowedFd};

use bstr::{BStr, BString, ByteSlice as _};
use ocluster_obuilder_spec::{Copy, quoted};
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::digest::Reader;
use super::manifest::Finder;
use super::{CopyError, CopyPlan};

/// Finds and hashes what `copy` takes from the tree `source`: the build's context, or the result of a stage. It blocks; when `cancel` fires
/// it ends soon, at the latest with the next piece of a file.
///
/// The rules and their messages are OBuilder's: sources are below the tree's top whether they start with a slash or not, `..` is refused,
/// links are taken as links, and what is neither file, link nor directory is refused. A path may have 4095 bytes; there may be at most
/// [`MAX_COPY_ITEMS`] items, with paths of [`MAX_COPY_PATH_BYTES`] in all.
///
/// [`MAX_COPY_ITEMS`]: super::MAX_COPY_ITEMS
/// [`MAX_COPY_PATH_BYTES`]: super::MAX_COPY_PATH_BYTES
///
/// # Errors
/// A source that cannot be copied, a destination that does not fit them, the disk's, or cancelled.
pub fn scan(
    source: BorrowedFd<'_>,
    copy: &Copy,
    workdir: &BStr,
    cancel: &CancellationToken,
) -> Result<CopyPlan, CopyError> {
    let mut finder = Finder {
        root: source.as_fd(),
        exclude: &copy.exclude,
        reader: Reader::new(cancel),
        budget: Budget::default(),
    };
    let items = copy
        .src
        .iter()
        .map(|src| finder.find(src.as_bstr()))
        .collect::<Result<Vec<_>, _>>()?;
    let dst = joined(workdir, copy.dst.as_bstr());
    let into_directory = dst.ends_with(b"/");
    let refused = |why: &str| Err(CopyError::Request(why.to_owned()));
    if items.is_empty() {
        return refused("No source items for copy!");
    }
    if !into_directory && items.len() > 1 {
        return refused("When copying multiple items, the destination must end with '/'");
    }
    if dst.contains(&0) {
        return Err(CopyError::Request(format!(
            "the destination {} has a zero byte, which no file's name can have",
            quoted(&dst)
        )));
    }
    Ok(CopyPlan {
        items,
        dst,
        into_directory,
    })
}

/// The destination as OBuilder joins it to the working directory: nothing is normalised, since that would change ids.
fn joined(workdir: &BStr, dst: &BStr) -> BString {
    if dst.starts_with(b"/") {
        return dst.to_owned();
    }
    let mut joined = workdir.to_owned();
    if !joined.ends_with(b"/") {
        joined.push(b'/');
    }
    joined.extend_from_slice(dst);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_joined_and_not_normalised() {
        for (workdir, dst, expected) in [
            ("/", "a", "/a"),
            ("/src", "a", "/src/a"),
            ("/src/", "a", "/src/a"),
            ("/src", "./", "/src/./"),
            ("/src", "", "/src/"),
            ("/src", "../x/", "/src/../x/"),
            ("/src", "/abs", "/abs"),
        ] {
            assert_eq!(joined(workdir.into(), dst.into()), expected);
        }
    }
}
