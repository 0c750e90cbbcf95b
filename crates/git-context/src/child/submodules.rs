//! Which submodules a commit has: where they sit, which commit each is at, and where that one comes from.
//!
//! Places come from the tree alone. What `.gitmodules` says is a stranger's word: it must never choose where files go.

use git2::{Oid, Repository, Tree};

use super::Trouble;
use super::gitmodules::{self, Section};
use super::tree::is_plain_path;
use crate::GitError;

/// The largest `.gitmodules` that is read, in bytes.
const MAX_GITMODULES: usize = 1 << 20;
/// The mode of a symbolic link in a tree.
const LINK: i32 = 0o120_000;

/// A submodule to check out.
#[derive(Debug)]
pub(super) struct Submodule {
    /// Where it sits, relative to the top of the tree, checked by [`is_plain_path`].
    pub(super) path: Vec<u8>,
    pub(super) commit: Oid,
    /// Its name, which is the path of its repository below `.git/modules`; checked as well.
    pub(super) name: Vec<u8>,
    /// As written, so perhaps relative.
    pub(super) url: String,
}

/// The submodules at `links` of `tree`, without those of submodules.
pub(super) fn find(
    repository: &Repository,
    tree: &Tree<'_>,
    links: Vec<(Vec<u8>, Oid)>,
) -> Result<Vec<Submodule>, Trouble> {
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let sections = read_sections(repository, tree)?;
    let mut found = Vec::new();
    for (path, commit) in links {
        let shown = String::from_utf8_lossy(&path).into_owned();
        let section = sections
            .iter()
            .find(|section| section.path.as_deref().map(trim_slash) == Some(path.as_slice()))
            .ok_or_else(|| bad(format!("No URL for submodule {shown:?} in .gitmodules")))?;
        if section.update.as_deref() == Some(b"none") {
            continue;
        }
        if !is_plain_path(&path) || !is_plain_path(&section.name) {
            return Err(bad(format!(
                "Submodule {:?} at {shown:?} would leave its place: refused",
                String::from_utf8_lossy(&section.name)
            ))
            .into());
        }
        let url = section
            .url
            .clone()
            .and_then(|url| String::from_utf8(url).ok())
            .ok_or_else(|| bad(format!("No URL for submodule {shown:?} in .gitmodules")))?;
        found.push(Submodule {
            path,
            commit,
            name: section.name.clone(),
            url,
        });
    }
    Ok(found)
}

fn read_sections(repository: &Repository, tree: &Tree<'_>) -> Result<Vec<Section>, GitError> {
    let Some(entry) = tree.get_name(".gitmodules") else {
        return Ok(Vec::new());
    };
    if entry.filemode() == LINK {
        return Err(bad(".gitmodules is a symbolic link: refused".to_owned()));
    }
    let unreadable = |_| bad(".gitmodules cannot be read".to_owned());
    let blob = entry
        .to_object(repository)
        .and_then(|object| object.peel_to_blob())
        .map_err(unreadable)?;
    if blob.size() > MAX_GITMODULES {
        return Err(bad(format!(
            ".gitmodules is larger than {MAX_GITMODULES} bytes: refused"
        )));
    }
    let sections = gitmodules::parse(blob.content())
        .map_err(|line| bad(format!(".gitmodules: line {line} is not understood")))?;
    for path in sections
        .iter()
        .filter_map(|section| section.path.as_deref())
    {
        if !is_plain_path(trim_slash(path)) {
            let path = String::from_utf8_lossy(path);
            return Err(bad(format!(
                ".gitmodules: path {path:?} leads out of the tree: refused"
            )));
        }
    }
    Ok(sections)
}

fn trim_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

fn bad(reason: String) -> GitError {
    GitError::BadSubmodule { reason }
}
