//! Writing the tree of a commit into a directory, straight from the mirror.
//!
//! libgit2 does the writing, since it knows what a hostile tree may try: names like `.git` or `..`, and links in the
//! way of directories.

use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{ErrorClass, Index, Oid, Repository};

use super::Trouble;
use super::report::Reporter;
use super::store::unreadable;
use crate::GitError;

/// Points an open mirror at a directory to check out into. Only in memory: nothing of it is written to the mirror, and
/// merges made afterwards exist in memory too.
pub(super) fn borrow_mirror(mirror: &Repository, destination: &Path) -> Result<(), Trouble> {
    let borrowed = || -> Result<(), git2::Error> {
        mirror.set_workdir(destination, false)?;
        mirror.set_index(&mut Index::new()?)?;
        // Ahead of the files on disk, so that new objects go here.
        mirror.odb()?.add_new_mempack_backend(1000)?;
        Ok(())
    };
    borrowed().map_err(unreadable)
}

/// Writes the tree of `commit` into the (empty) work directory of `repository`. With `write_index` the repository
/// remembers it, as one with a `.git` of its own must.
pub(super) fn check_out(
    repository: &Repository,
    commit: Oid,
    write_index: bool,
    reporter: &Reporter,
) -> Result<(), Trouble> {
    reporter.step(format!("checking out {commit}"), None);
    let tree = repository
        .find_commit(commit)
        .and_then(|commit| commit.tree())
        .map_err(unreadable)?;
    // With the tree in the index, `.gitattributes` counts for all files, not only for those written after it.
    repository
        .index()
        .and_then(|mut index| index.read_tree(&tree))
        .map_err(|error| refused(commit, error))?;
    let mut options = CheckoutBuilder::new();
    options.force().update_index(write_index);
    if !write_index {
        // The index is in memory; there is nothing to read it from.
        options.refresh(false);
    }
    options.progress(|_, done, all| {
        reporter.progress(|| format!("Checking out files: {done}/{all}"));
    });
    repository
        .checkout_tree(tree.as_object(), Some(&mut options))
        .map_err(|error| refused(commit, error))
}

fn refused(commit: Oid, error: git2::Error) -> Trouble {
    match error.class() {
        ErrorClass::Odb | ErrorClass::Zlib | ErrorClass::Object => unreadable(error),
        _ => Trouble::Final(GitError::Checkout {
            commit: commit.to_string(),
            reason: error.message().to_owned(),
        }),
    }
}
