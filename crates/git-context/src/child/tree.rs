//! Looking a tree over before anything of it is written.
//!
//! libgit2 guards each name by itself, but follows a link to make the directory of a submodule. So no tree may pass in
//! which a link could stand above anything: one that has a name twice.

use std::collections::HashSet;

use git2::{FileMode, ObjectType, Oid, Repository, Tree, TreeEntry};

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
    /// Whether files may have to be changed on their way out, because a `.gitattributes` asks for that.
    pub(super) has_filters: bool,
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
        if name == b".gitattributes" {
            found.has_filters |= asks_for_filters(repository, &entry);
        }
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

/// Whether a `.gitattributes` may change files as they are checked out. What cannot be read may.
fn asks_for_filters(repository: &Repository, entry: &TreeEntry<'_>) -> bool {
    let blob = entry
        .to_object(repository)
        .and_then(|object| object.peel_to_blob());
    let is_file = entry.filemode() != i32::from(FileMode::Link);
    !is_file || blob.map_or(true, |blob| names_a_filter(blob.content()))
}

/// Whether attributes have a word in them without which nothing is changed on the way out: line ends become CRLF only where that is
/// said, as nobody's configuration is read here, and the only other filter of libgit2 is `ident`.
fn names_a_filter(attributes: &[u8]) -> bool {
    let says = |word: &[u8]| {
        attributes
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word))
    };
    says(b"crlf") || says(b"ident")
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
    fn attributes_that_are_about_something_else_change_no_file() {
        for plain in [
            "",
            "CHANGES.md merge=union\n",
            "*.png binary\n* text=auto\n*.sh eol=lf\n",
        ] {
            assert!(!names_a_filter(plain.as_bytes()), "{plain}");
        }
        for changing in [
            "*.bat eol=crlf\n",
            "*.c ident\n",
            "[attr]win text eol=CRLF\n",
        ] {
            assert!(names_a_filter(changing.as_bytes()), "{changing}");
        }
    }

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
