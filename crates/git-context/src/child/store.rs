//! Mirrors on disk: making one, opening one, finding it damaged, and having the commits a job wants in it.
//!
//! Only the holder of the writer's lock may change a mirror, and only who has locked out its readers may remove it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use git2::{ErrorClass, ErrorCode, Oid, Repository, RepositoryInitOptions};

use super::Trouble;
use super::fetch::{Fetch, Refs};
use super::report::Reporter;
use crate::cache::{Cache, Slot};
use crate::directories::remove_dir_if_there;
use crate::lock::FileLock;
use crate::{CommitId, GitError, RepositoryUrl};

/// The file in a mirror that says: nothing was fetched since all refs were. Of such a mirror's commits, all branches are there that a
/// fresh mirror would have.
const ALL_REFS: &str = "ocluster-all-refs";

/// The cache as one job sees it.
pub(super) struct Store<'a> {
    cache: Cache,
    reporter: &'a Reporter,
    fetched: Cell<bool>,
    refs: Refs,
    silence_limit: Duration,
}

/// A mirror that has the commits asked for, and stays while this value lives.
pub(super) struct Mirror {
    pub(super) repository: Repository,
    /// Whether it had everything already.
    pub(super) was_cached: bool,
    slot: Slot,
    identity: Identity,
    _reading: FileLock,
}

/// Tells a mirror from the one made in its place later.
type Identity = (u64, u64);

impl<'a> Store<'a> {
    pub(super) fn new(
        cache: Cache,
        refs: Refs,
        silence_limit: Duration,
        reporter: &'a Reporter,
    ) -> Store<'a> {
        Store {
            cache,
            reporter,
            fetched: Cell::new(false),
            refs,
            silence_limit,
        }
    }

    /// Whether any server was asked so far.
    pub(super) fn fetched(&self) -> bool {
        self.fetched.get()
    }

    /// A mirror of `url` with all of `commits` in it, and with all refs if the job wants them, fetched if need be. A damaged one is made anew once.
    pub(super) fn mirror(
        &self,
        url: &RepositoryUrl,
        commits: &[CommitId],
    ) -> Result<Mirror, GitError> {
        let slot = self.cache.slot(url);
        let failed = |error: io::Error| {
            GitError::worker(format!("using the cache {}", slot.mirror.display()), error)
        };
        if let Some(parent) = slot.mirror.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        if let Some(mirror) = self.read(url, commits).map_err(failed)? {
            return Ok(mirror);
        }
        let _writing = {
            let waiting = self.waiting(format!("waiting for another fetch of {url}"));
            slot.lock_for_writing(waiting).map_err(failed)?
        };
        // Whoever held the lock may have fetched what is wanted here.
        if let Some(mirror) = self.read(url, commits).map_err(failed)? {
            return Ok(mirror);
        }
        self.fetched.set(true);
        let mut rebuilt = false;
        loop {
            match self.update(&slot, url, commits) {
                Ok(()) => break,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Damaged(reason)) if rebuilt => {
                    return Err(GitError::DamagedMirror {
                        repository: url.to_string(),
                        reason,
                    });
                }
                Err(Trouble::Damaged(reason)) => {
                    rebuilt = true;
                    self.remove(&slot, &reason).map_err(failed)?;
                }
            }
        }
        match self.read(url, commits).map_err(failed)? {
            Some(mirror) => Ok(Mirror {
                was_cached: false,
                ..mirror
            }),
            // The fetch checked that each commit is there.
            None => Err(GitError::DamagedMirror {
                repository: url.to_string(),
                reason: "it cannot be read right after a fetch".to_owned(),
            }),
        }
    }

    /// Removes a mirror which turned out damaged, unless somebody else has done that already.
    pub(super) fn discard(
        &self,
        mirror: Mirror,
        url: &RepositoryUrl,
        reason: &str,
    ) -> Result<(), GitError> {
        let Mirror {
            repository,
            slot,
            identity,
            _reading: reading,
            ..
        } = mirror;
        // Who still reads cannot lock out the readers.
        drop((repository, reading));
        let failed = |error: io::Error| {
            GitError::worker(
                format!("removing the cache {}", slot.mirror.display()),
                error,
            )
        };
        let waiting = self.waiting(format!("waiting for another fetch of {url}"));
        let _writing = slot.lock_for_writing(waiting).map_err(failed)?;
        if self::identity(&slot.mirror).is_ok_and(|now| now == identity) {
            self.remove(&slot, reason).map_err(failed)?;
        }
        Ok(())
    }

    /// The mirror, if it can be opened and has everything. `None` says that somebody must look closer, with the
    /// right to repair.
    fn read(&self, url: &RepositoryUrl, commits: &[CommitId]) -> io::Result<Option<Mirror>> {
        let slot = self.cache.slot(url);
        let waiting = self.waiting(format!("waiting for the repair of {url}"));
        let reading = slot.lock_for_reading(waiting)?;
        let Ok(repository) = Repository::open_bare(&slot.mirror) else {
            return Ok(None);
        };
        if !missing(&repository, commits).is_empty() {
            return Ok(None);
        }
        if self.refs == Refs::All && !slot.mirror.join(ALL_REFS).exists() {
            return Ok(None);
        }
        Ok(Some(Mirror {
            identity: identity(&slot.mirror)?,
            was_cached: true,
            repository,
            slot,
            _reading: reading,
        }))
    }

    /// Fetches what is missing. The caller holds the writer's lock.
    fn update(
        &self,
        slot: &Slot,
        url: &RepositoryUrl,
        commits: &[CommitId],
    ) -> Result<(), Trouble> {
        if let Some(stale) = stale_lock(&slot.mirror) {
            return Err(Trouble::Damaged(format!("a killed process left {stale}")));
        }
        let repository = if slot.mirror.exists() {
            match Repository::open_bare(&slot.mirror) {
                Ok(repository) => repository,
                Err(error)
                    if error.class() == ErrorClass::Os || error.code() == ErrorCode::Owner =>
                {
                    let action = format!("opening {}", slot.mirror.display());
                    return Err(GitError::worker(action, error.message()).into());
                }
                Err(error) => return Err(Trouble::Damaged(error.message().to_owned())),
            }
        } else {
            create(slot)?
        };
        remove_unfinished_packs(&slot.mirror).map_err(|error| {
            GitError::worker(format!("tidying {}", slot.mirror.display()), error)
        })?;
        self.reporter.log(format!("Fetching {url}"));
        let fetch = Fetch {
            mirror: &repository,
            url,
            silence_limit: self.silence_limit,
            reporter: self.reporter,
        };
        // Gone before the fetch, so that one which is killed leaves no false claim.
        let all_refs = slot.mirror.join(ALL_REFS);
        let failed = |error: io::Error| {
            GitError::worker(format!("marking {}", slot.mirror.display()), error)
        };
        remove_file_if_there(&all_refs).map_err(failed)?;
        fetch.run(&missing(&repository, commits), self.refs)?;
        if self.refs == Refs::All {
            fs::write(&all_refs, "").map_err(failed)?;
        }
        match missing(&repository, commits).first() {
            None => Ok(()),
            Some(commit) => Err(GitError::CommitNotFound {
                commit: commit.to_string(),
                repository: url.to_string(),
            }
            .into()),
        }
    }

    fn remove(&self, slot: &Slot, reason: &str) -> io::Result<()> {
        let path = slot.mirror.display().to_string();
        self.reporter
            .log(format!("Removing corrupted repository {path:?}"));
        self.reporter.log(format!("({reason})"));
        let waiting = self.waiting(format!("waiting for other jobs to leave {path}"));
        let _readers = slot.lock_out_readers(waiting)?;
        remove_dir_if_there(&slot.mirror)
    }

    /// What to do while a lock is held by somebody else: say so once, and stay alive.
    fn waiting(&self, what: String) -> impl FnMut() {
        let mut said = false;
        move || {
            if !said {
                said = true;
                self.reporter.step(what.clone(), None);
                let mut line = what.clone();
                if let Some(first) = line.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                self.reporter.log(line);
            }
            self.reporter.alive();
        }
    }
}

/// The commits which the repository has not.
fn missing(repository: &Repository, commits: &[CommitId]) -> Vec<CommitId> {
    let Ok(odb) = repository.odb() else {
        return commits.to_vec();
    };
    let is_missing =
        |commit: &&CommitId| Oid::from_str(commit.as_str()).map_or(true, |oid| !odb.exists(oid));
    commits.iter().filter(is_missing).cloned().collect()
}

/// Makes an empty mirror beside its place and moves it there, so that a mirror is whole or absent.
fn create(slot: &Slot) -> Result<Repository, GitError> {
    let failed =
        |reason: String| GitError::worker(format!("creating {}", slot.mirror.display()), reason);
    remove_dir_if_there(&slot.unfinished).map_err(|error| failed(error.to_string()))?;
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).no_reinit(true);
    Repository::init_opts(&slot.unfinished, &options)
        .map_err(|error| failed(error.message().to_owned()))?;
    fs::rename(&slot.unfinished, &slot.mirror).map_err(|error| failed(error.to_string()))?;
    Repository::open_bare(&slot.mirror).map_err(|error| failed(error.message().to_owned()))
}

fn identity(mirror: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(mirror)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A lock file of git itself in the mirror. The caller holds the writer's lock, so nobody alive holds this one, and
/// what it guarded may be half done.
fn stale_lock(mirror: &Path) -> Option<String> {
    let mut directories = vec![mirror.join("refs")];
    let mut entries: Vec<_> = fs::read_dir(mirror).ok()?.flatten().collect();
    loop {
        for entry in entries {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                return Some(path.display().to_string());
            }
            let in_refs = path.starts_with(mirror.join("refs")) && path != mirror.join("refs");
            if in_refs && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            }
        }
        let directory = directories.pop()?;
        entries = fs::read_dir(directory)
            .map_or_else(|_| Vec::new(), |entries| entries.flatten().collect());
    }
}

fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what a killed fetch left. Unlike a lock it says nothing about the rest of the mirror: a pack counts only
/// once it has its final name.
fn remove_unfinished_packs(mirror: &Path) -> io::Result<()> {
    for entry in fs::read_dir(mirror.join("objects/pack"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.ends_with(".pack") || name.ends_with(".idx")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What it means when objects of a mirror cannot be read or used.
pub(super) fn unreadable(error: git2::Error) -> Trouble {
    let reason = error.message().to_owned();
    match error.class() {
        ErrorClass::Os | ErrorClass::NoMemory => {
            Trouble::Final(GitError::worker("reading a cached repository", reason))
        }
        // Objects are checked against their hashes when they are read, so these are about what the repository really
        // holds.
        ErrorClass::Index | ErrorClass::Invalid | ErrorClass::Merge => {
            Trouble::Final(GitError::Unusable { reason })
        }
        _ => Trouble::Damaged(reason),
    }
}
