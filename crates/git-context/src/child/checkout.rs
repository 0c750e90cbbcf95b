//! Writing the tree of a commit into a directory, straight from the mirror.
//!
//! libgit2 does the writing, since it knows what a hostile tree may try: names like `.git` or `..`, and links in the
//! way of directories.

use std::path::Path;

use git2::build::CheckoutBuilder;
use git2::{ErrorClass, Index, Oid, Repository, Tree};

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

/// What is to be written.
pub(super) struct Checkout<'a> {
    pub(super) commit: Oid,
    /// Its tree, looked over.
    pub(super) tree: &'a Tree<'a>,
    /// Whether a `.gitattributes` in it may change files on their way out.
    pub(super) has_filters: bool,
    /// Whether the repository remembers what it has checked out, as one with a `.git` of its own must.
    pub(super) write_index: bool,
}

impl Checkout<'_> {
    /// Writes the tree into the (empty) work directory of `repository`.
    pub(super) fn run(&self, repository: &Repository, reporter: &Reporter) -> Result<(), Trouble> {
        let commit = self.commit;
        reporter.step(format!("checking out {commit}"), None);
        let mut options = CheckoutBuilder::new();
        options.force().update_index(self.write_index);
        if self.has_filters {
            // With the tree in the index, `.gitattributes` counts for all files, not only for those written after it.
            repository
                .index()
                .and_then(|mut index| index.read_tree(self.tree))
                .map_err(|error| refused(commit, error))?;
        } else {
            // Nothing else could ask for a change of the files: mirrors have no attributes of their own, and no
            // configuration of the user's or the machine's is read. libgit2 would look for them in each directory,
            // again for each file, which takes as long as the rest.
            options.disable_filters(true);
        }
        if !self.write_index {
            // The index is in memory; there is nothing to read it from.
            options.refresh(false);
        }
        options.progress(|_, done, all| {
            reporter.progress(|| format!("Checking out files: {done}/{all}"));
        });
        repository
            .checkout_tree(self.tree.as_object(), Some(&mut options))
            .map_err(|error| refused(commit, error))
    }
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
