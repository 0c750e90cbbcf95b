//! Looking a tree over before anything of it is written.
//!
//! libgit2 guards each name by itself, but follows a link to make the directory of a submodule. So no tree may pass in
//! which a link could stand above anything: one that has a name twice.

use std::collections::HashSet;

use git2::{ObjectType, Oid, Repository, Tree};

use super::Trouble;
use super::store::unreadable;
use crate::GitError;

/// How deep directories may nest: far more than a path of the system can have.
const MAX_DEPTH: usize = 2048;

/// What a tree holds, as far as it matters before anything is written.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Links to commits of other repositories, with their paths.
    pub(super) links: Vec<(Vec<u8>, Oid)>,
    /// Whether there is a `.gitattributes` anywhere, so that files may have to be changed on their way out.
    pub(super) has_attributes: bool,
}

/// Checks `tree`, which sits at `at` (empty, or ending in a slash), and all below it, and adds what it holds to `found`.
/// `Tree::walk` would stop at a name that is not UTF-8.
pub(super) fn inspect(
    repository: &Repository,
    tree: &Tree<'_>,
    at: &mut Vec<u8>,
    found: &mut Found,
) -> Result<(), Trouble> {
    if at.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
        return Err(refused(at, "is nested too deep").into());
    }
    let mut names = HashSet::new();
    for entry in tree {
        let name = entry.name_bytes();
        let length = at.len();
        at.extend_from_slice(name);
        if name.contains(&b'/') || !is_plain_path(name) {
            return Err(refused(at, "has a name that no file of a repository may have").into());
        }
        if !names.insert(name.to_vec()) {
            return Err(refused(at, "is in its directory twice").into());
        }
        found.has_attributes |= name == b".gitattributes";
        match entry.kind() {
            Some(ObjectType::Commit) => found.links.push((at.clone(), entry.id())),
            Some(ObjectType::Tree) => {
                at.push(b'/');
                let below = repository.find_tree(entry.id()).map_err(unreadable)?;
                inspect(repository, &below, at, found)?;
            }
            _ => {}
        }
        at.truncate(length);
    }
    Ok(())
}

fn refused(path: &[u8], why: &str) -> GitError {
    GitError::HostileTree {
        path: String::from_utf8_lossy(path).into_owned(),
        reason: why.to_owned(),
    }
}

/// Whether a path stays below where it starts and touches no `.git`.
pub(super) fn is_plain_path(path: &[u8]) -> bool {
    !path.is_empty()
        && !path.contains(&0)
        && path
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b"..") && !part.eq_ignore_ascii_case(b".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_go_straight_down_are_plain() {
        for good in ["lib", "a/b", "a.b/..c", "-x"] {
            assert!(is_plain_path(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "/lib",
            "a//b",
            "../x",
            "a/../b",
            "a/.",
            ".git",
            "a/.GIT/hooks",
            "a/",
        ] {
            assert!(!is_plain_path(bad.as_bytes()), "{bad}");
        }
    }
}
