//! Merging the further commits of a job into its first one, as `git merge` would: fast-forward if possible, recorded
//! as a commit otherwise.

use git2::{Commit, ErrorCode, Index, Oid, Repository, Signature};

use super::Trouble;
use super::report::Reporter;
use super::store::unreadable;
use crate::{CommitId, GitError, RepositoryUrl};

/// How many paths in conflict an error names.
const MAX_CONFLICTS: usize = 20;

/// The commit that has all of `commits` in it. New objects go to the object database of `repository`.
pub(super) fn merge_all(
    repository: &Repository,
    url: &RepositoryUrl,
    commits: &[CommitId],
    reporter: &Reporter,
) -> Result<Oid, Trouble> {
    let mut head: Option<Oid> = None;
    for id in commits {
        let commit = find_commit(repository, url, id)?;
        head = Some(match head {
            None => commit.id(),
            Some(ours) => {
                reporter.step(format!("merging {id}"), None);
                let ours = repository.find_commit(ours).map_err(unreadable)?;
                merge(repository, &ours, &commit, reporter)?
            }
        });
    }
    head.ok_or_else(|| GitError::worker("merging", "no commits were given").into())
}

fn find_commit<'a>(
    repository: &'a Repository,
    url: &RepositoryUrl,
    id: &CommitId,
) -> Result<Commit<'a>, Trouble> {
    let oid = Oid::from_str(id.as_str()).map_err(unreadable)?;
    let object = repository.find_object(oid, None).map_err(unreadable)?;
    let kind = object.kind().map_or("thing", |kind| kind.str());
    match object.peel_to_commit() {
        Ok(commit) => Ok(commit),
        Err(error) if matches!(error.code(), ErrorCode::Peel | ErrorCode::InvalidSpec) => {
            Err(GitError::NotACommit {
                commit: id.to_string(),
                repository: url.to_string(),
                kind: kind.to_owned(),
            }
            .into())
        }
        Err(error) => Err(unreadable(error)),
    }
}

fn merge(
    repository: &Repository,
    ours: &Commit<'_>,
    theirs: &Commit<'_>,
    reporter: &Reporter,
) -> Result<Oid, Trouble> {
    let (our_id, their_id) = (ours.id(), theirs.id());
    let base = match repository.merge_base(our_id, their_id) {
        Ok(base) => base,
        Err(error) if error.code() == ErrorCode::NotFound && is_about_bases(&error) => {
            return Err(GitError::UnrelatedHistories {
                ours: our_id.to_string(),
                theirs: their_id.to_string(),
            }
            .into());
        }
        Err(error) => return Err(unreadable(error)),
    };
    if base == their_id {
        reporter.log(format!("Merging {their_id}: already in {our_id}"));
        return Ok(our_id);
    }
    if base == our_id {
        reporter.log(format!("Merging {their_id}: fast-forward from {our_id}"));
        return Ok(their_id);
    }
    let mut index = repository
        .merge_commits(ours, theirs, None)
        .map_err(unreadable)?;
    let files = conflicts(&index)?;
    if !files.is_empty() {
        return Err(GitError::MergeConflict {
            ours: our_id.to_string(),
            theirs: their_id.to_string(),
            files,
        }
        .into());
    }
    let merged = record(repository, &mut index, ours, theirs).map_err(unreadable)?;
    reporter.log(format!("Merging {their_id} into {our_id}"));
    Ok(merged)
}

/// libgit2 says "not found" of a merge base and of an object alike.
fn is_about_bases(error: &git2::Error) -> bool {
    error.class() == git2::ErrorClass::Merge
}

fn record(
    repository: &Repository,
    index: &mut Index,
    ours: &Commit<'_>,
    theirs: &Commit<'_>,
) -> Result<Oid, git2::Error> {
    let tree = repository.find_tree(index.write_tree_to(repository)?)?;
    let ocluster = Signature::now("ocluster", "ocluster@ocurrent.org")?;
    let message = format!("Merge commit '{}'\n", theirs.id());
    repository.commit(None, &ocluster, &ocluster, &message, &tree, &[ours, theirs])
}

/// The paths in conflict, cut short.
fn conflicts(index: &Index) -> Result<Vec<String>, Trouble> {
    let mut files: Vec<String> = Vec::new();
    for conflict in index.conflicts().map_err(unreadable)? {
        let conflict = conflict.map_err(unreadable)?;
        if let Some(entry) = conflict.our.or(conflict.their).or(conflict.ancestor) {
            let path = String::from_utf8_lossy(&entry.path)
                .escape_debug()
                .to_string();
            if files.last() != Some(&path) {
                files.push(path);
            }
        }
    }
    if files.len() > MAX_CONFLICTS {
        let more = files.len() - MAX_CONFLICTS;
        files.truncate(MAX_CONFLICTS);
        files.push(format!("and {more} more"));
    }
    Ok(files)
}
