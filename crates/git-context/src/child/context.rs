//! The whole of a build context: the commits of the repository, then each submodule in its place, and theirs.
//!
//! Must write below the destination only, also when a tree tries to lead elsewhere through a link.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::fetch::Refs;
use super::report::Reporter;
use super::standalone::{self, Place};
use super::store::{Mirror, Store, unreadable};
use super::submodules::{self, Submodule};
use super::tree::{self, Found};
use super::{Trouble, checkout, merge};
use crate::cache::Cache;
use crate::directories::{remove_content, remove_dir_if_there};
use crate::protocol::{Order, Report};
use crate::{CommitId, GitError, RepositoryUrl};
use checkout::Checkout;

/// How deep submodules may nest.
const MAX_DEPTH: usize = 32;
/// How much of a commit's first line gets into the log, in characters.
const MAX_SUMMARY: usize = 200;

/// Makes the context of `order` in its destination, which is empty.
pub(super) fn make(order: &Order, reporter: &Reporter) -> Result<Report, GitError> {
    let refs = if order.include_git {
        Refs::All
    } else {
        Refs::AsNeeded
    };
    let cache = Cache::new(&order.cache_dir);
    let maker = Maker {
        store: Store::new(cache, refs, order.silence_limit, reporter),
        top: &order.destination,
        reporter,
    };
    let module = Module {
        url: order.repository.clone(),
        commits: order.commits.clone(),
        place: Place {
            work: PathBuf::new(),
            git: PathBuf::from(".git"),
        },
        with_git: order.include_git,
        depth: 0,
    };
    let commit = maker.module(&module)?;
    Ok(Report::Done {
        commit: commit.to_string().parse()?,
        fetched: maker.store.fetched(),
    })
}

/// A repository to be checked out somewhere in the context.
struct Module {
    url: RepositoryUrl,
    commits: Vec<CommitId>,
    place: Place,
    with_git: bool,
    depth: usize,
}

struct Maker<'a> {
    store: Store<'a>,
    top: &'a Path,
    reporter: &'a Reporter,
}

impl Maker<'_> {
    /// Checks out one repository and what is nested in it. A mirror found damaged on the way is made anew once.
    fn module(&self, module: &Module) -> Result<Oid, GitError> {
        let mut rebuilt = false;
        loop {
            let mirror = self.store.mirror(&module.url, &module.commits)?;
            if mirror.was_cached && module.depth == 0 {
                self.reporter.log("All commits already cached");
            }
            match self.files(module, &mirror) {
                Ok((commit, nested)) => {
                    // The next ones may take long, and this mirror is not needed any more.
                    drop(mirror);
                    for submodule in nested {
                        self.submodule(module, &submodule).map_err(|error| {
                            GitError::Submodule {
                                path: String::from_utf8_lossy(&submodule.path).into_owned(),
                                error: Box::new(error),
                            }
                        })?;
                    }
                    return Ok(commit);
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Damaged(reason)) if rebuilt => {
                    return Err(GitError::DamagedMirror {
                        repository: module.url.to_string(),
                        reason,
                    });
                }
                Err(Trouble::Damaged(reason)) => {
                    rebuilt = true;
                    self.store.discard(mirror, &module.url, &reason)?;
                    self.clear(&module.place)
                        .map_err(|error| GitError::worker("clearing a build context", error))?;
                }
            }
        }
    }

    /// Writes the files of one repository.
    fn files(&self, module: &Module, mirror: &Mirror) -> Result<(Oid, Vec<Submodule>), Trouble> {
        let own;
        let repository: &Repository = if module.with_git {
            own = standalone::create(&mirror.repository, &module.url, self.top, &module.place)?;
            &own
        } else {
            let destination = self.top.join(&module.place.work);
            checkout::borrow_mirror(&mirror.repository, &destination)?;
            &mirror.repository
        };
        let commit = merge::merge_all(repository, &module.url, &module.commits, self.reporter)?;
        // Before anything is written: this is what finds hostile trees.
        let tree = repository
            .find_commit(commit)
            .and_then(|commit| commit.tree())
            .map_err(unreadable)?;
        let mut found = Found::default();
        tree::inspect(repository, &tree, &mut Vec::new(), &mut found)?;
        let nested = submodules::find(repository, &tree, found.links)?;
        let checkout = Checkout {
            commit,
            tree: &tree,
            has_filters: found.has_filters,
            write_index: module.with_git,
        };
        checkout.run(repository, self.reporter)?;
        if module.with_git {
            standalone::set_head(repository, commit)?;
        }
        if module.depth == 0 {
            self.reporter
                .log(head_line(repository, commit).map_err(unreadable)?);
        }
        if module.with_git {
            for submodule in &nested {
                let url = module.url.submodule(&submodule.url)?;
                standalone::activate(repository, &submodule.name, &url)?;
            }
        }
        Ok((commit, nested))
    }

    fn submodule(&self, parent: &Module, submodule: &Submodule) -> Result<(), GitError> {
        let depth = parent.depth + 1;
        if depth > MAX_DEPTH {
            return Err(GitError::BadSubmodule {
                reason: format!("submodules are nested more than {MAX_DEPTH} deep: refused"),
            });
        }
        let path = Path::new(OsStr::from_bytes(&submodule.path));
        let name = Path::new(OsStr::from_bytes(&submodule.name));
        let module = Module {
            url: parent.url.submodule(&submodule.url)?,
            commits: vec![submodule.commit.to_string().parse()?],
            place: Place {
                work: parent.place.work.join(path),
                git: parent.place.git.join("modules").join(name),
            },
            with_git: parent.with_git,
            depth,
        };
        self.make_way(&parent.place.work, path)?;
        let commit = self.module(&module)?;
        let shown = module.place.work.display();
        self.reporter
            .log(format!("Submodule path '{shown}': checked out '{commit}'"));
        Ok(())
    }

    /// Makes sure that a submodule's place is an empty directory with nothing but directories above it.
    fn make_way(&self, work: &Path, path: &Path) -> Result<(), GitError> {
        let mut at = self.top.join(work);
        let failed = |at: &Path, error: io::Error| {
            GitError::worker(format!("creating {}", at.display()), error)
        };
        for part in path.components() {
            at.push(part);
            match fs::create_dir(&at) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Does not follow a link at the end, and those above were looked at before.
                    let kind = fs::symlink_metadata(&at).map_err(|error| failed(&at, error))?;
                    if !kind.is_dir() {
                        return Err(GitError::BadSubmodule {
                            reason: "its place is taken by a file or a link: refused".to_owned(),
                        });
                    }
                }
                Err(error) => return Err(failed(&at, error)),
            }
        }
        let is_empty = fs::read_dir(&at).map(|mut entries| entries.next().is_none());
        if !is_empty.map_err(|error| failed(&at, error))? {
            return Err(GitError::BadSubmodule {
                reason: "its place is taken by other files: refused".to_owned(),
            });
        }
        Ok(())
    }

    /// Removes what a failed attempt wrote.
    fn clear(&self, place: &Place) -> io::Result<()> {
        remove_dir_if_there(&self.top.join(&place.git))?;
        remove_content(&self.top.join(&place.work))
    }
}

/// The line in which `git reset --hard` tells where it went.
fn head_line(repository: &Repository, commit: Oid) -> Result<String, git2::Error> {
    let commit = repository.find_commit(commit)?;
    let id = commit.id().to_string();
    let short = id.get(..7).unwrap_or(&id);
    let summary = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default());
    // A stranger wrote this: no escape sequences, and no more than a line.
    let summary: String = summary
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SUMMARY)
        .collect();
    Ok(format!("HEAD is now at {short} {summary}"))
}
