//! A `.git` directory inside a build context, which works wherever the context goes.
//!
//! Packs are immutable, so they are hard links to those of the mirror (or copies, on another file system). Nothing in it
//! may point to the mirror, name this machine's paths, or hold the user information of the URL.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository, RepositoryInitOptions};

use super::Trouble;
use super::store::unreadable;
use crate::{GitError, RepositoryUrl};

/// Where a repository goes, relative to the top of the context.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The directory with the files; empty for the top.
    pub(super) work: PathBuf,
    /// The repository itself: `.git`, or `.git/modules/...`.
    pub(super) git: PathBuf,
}

/// Makes a repository in the context at `top` with all objects, branches and tags of the mirror.
pub(super) fn create(
    mirror: &Repository,
    url: &RepositoryUrl,
    top: &Path,
    place: &Place,
) -> Result<Repository, Trouble> {
    let git_dir = top.join(&place.git);
    // The refs before the packs: a fetch that runs meanwhile adds packs first.
    let refs = packed_refs(mirror).map_err(unreadable)?;
    let mut options = RepositoryInitOptions::new();
    options
        .bare(true)
        .external_template(false)
        .no_reinit(true)
        .mkpath(true);
    let repository =
        Repository::init_opts(&git_dir, &options).map_err(|error| failed(&error.message()))?;
    fs::write(git_dir.join("packed-refs"), refs).map_err(|error| failed(&error))?;
    link_objects(&mirror.path().join("objects"), &git_dir.join("objects"))
        .map_err(|error| failed(&error))?;
    configure(&repository, url, place).map_err(|error| failed(&error.message()))?;
    if !place.work.as_os_str().is_empty() {
        let mut link = b"gitdir: ".to_vec();
        link.extend_from_slice(relative(&place.work, &place.git).as_os_str().as_bytes());
        link.push(b'\n');
        fs::write(top.join(&place.work).join(".git"), link).map_err(|error| failed(&error))?;
    }
    drop(repository);
    Repository::open(&git_dir).map_err(unreadable)
}

/// Makes `commit` what is checked out, on branch `master` as OCluster has it.
pub(super) fn set_head(repository: &Repository, commit: Oid) -> Result<(), Trouble> {
    let set = || -> Result<(), git2::Error> {
        repository.reference("refs/heads/master", commit, true, "build context")?;
        repository.set_head("refs/heads/master")
    };
    set().map_err(|error| failed(&error.message()).into())
}

/// Tells a repository about a submodule that is checked out in it.
pub(super) fn activate(
    repository: &Repository,
    name: &[u8],
    url: &RepositoryUrl,
) -> Result<(), Trouble> {
    // A name that is not text cannot be a key here. git then asks for the submodule to be initialised; it is complete
    // otherwise.
    let Ok(name) = std::str::from_utf8(name) else {
        return Ok(());
    };
    let set = || -> Result<(), git2::Error> {
        let mut config = repository.config()?;
        config.set_bool(&format!("submodule.{name}.active"), true)?;
        config.set_str(&format!("submodule.{name}.url"), &url.to_string())
    };
    set().map_err(|error| failed(&error.message()).into())
}

fn configure(
    repository: &Repository,
    url: &RepositoryUrl,
    place: &Place,
) -> Result<(), git2::Error> {
    let mut config = repository.config()?;
    config.set_bool("core.bare", false)?;
    config.set_bool("core.logallrefupdates", false)?;
    if !place.work.as_os_str().is_empty() {
        let work = relative(&place.git, &place.work);
        config.set_str("core.worktree", &work.to_string_lossy())?;
    }
    config.set_str("remote.origin.url", &url.to_string())?;
    config.set_str("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
}

/// Branches and tags as the content of `packed-refs`. Pull and merge requests are left out, as OCluster leaves them out
/// of what the context would fetch.
fn packed_refs(mirror: &Repository) -> Result<Vec<u8>, git2::Error> {
    let mut lines = Vec::new();
    for reference in mirror.references()? {
        let reference = reference?;
        let name = reference.name_bytes();
        let wanted = name.starts_with(b"refs/tags/")
            || (name.starts_with(b"refs/remotes/origin/")
                && !name.starts_with(b"refs/remotes/origin/merge-requests/"));
        if let (true, Some(target)) = (wanted, reference.target()) {
            let mut line = name.to_vec();
            line.push(b'\n');
            lines.push((line, target.to_string()));
        }
    }
    lines.sort();
    let mut text = Vec::new();
    for (name, target) in lines {
        text.extend_from_slice(target.as_bytes());
        text.push(b' ');
        text.extend_from_slice(&name);
    }
    Ok(text)
}

/// Gives `to` the objects of `from`.
fn link_objects(from: &Path, to: &Path) -> io::Result<()> {
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        let name = directory.file_name();
        let is_loose = name.len() == 2 && name.as_bytes().iter().all(u8::is_ascii_hexdigit);
        if !(is_loose || name == "pack") || !directory.file_type()?.is_dir() {
            continue;
        }
        let target = to.join(&name);
        fs::create_dir_all(&target)?;
        for file in fs::read_dir(directory.path())? {
            let file = file?;
            let name = file.file_name();
            let bytes = name.as_bytes();
            let is_pack = bytes.starts_with(b"pack-")
                && (bytes.ends_with(b".pack") || bytes.ends_with(b".idx"));
            if is_pack || (is_loose && bytes.len() == 38) {
                link_or_copy(&file.path(), &target.join(&name))?;
            }
        }
    }
    Ok(())
}

fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(|_| ())
}

/// The way from directory `from` to `to`, both relative to one place and without `..`.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let mut way = PathBuf::new();
    for _ in from.components().skip(shared) {
        way.push("..");
    }
    way.extend(to.components().skip(shared));
    way
}

fn failed(reason: &dyn std::fmt::Display) -> GitError {
    GitError::worker("creating the .git of a build context", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_between_two_directories_of_a_context() {
        let way = |from: &str, to: &str| {
            relative(Path::new(from), Path::new(to))
                .display()
                .to_string()
        };
        assert_eq!(way("lib", ".git/modules/lib"), "../.git/modules/lib");
        assert_eq!(
            way("a/b", ".git/modules/x/modules/y"),
            "../../.git/modules/x/modules/y"
        );
        assert_eq!(way(".git/modules/a/b", "a/b"), "../../../../a/b");
    }
}
