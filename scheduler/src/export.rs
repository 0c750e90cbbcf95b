//! Regular exports of the store beside it, while the scheduler runs: what a lost disk, or a damaged store, can be restored from.
//!
//! The store is asked in short questions, between which it goes on with its work, on a thread that may wait. A file is whole or not
//! there. Nothing is written while the disk is short of room: an export must never be what fills it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ocluster_store::StoreHandle;
use ocluster_store::chores::{self, Exported, Source};
use tempfile::NamedTempFile;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::space::SpaceGuard;

/// How the files' names end. They begin with the time, so that their order is that of their names.
const SUFFIX: &str = ".jsonl.zst";
/// How the names of files begin that are not whole yet.
const UNFINISHED: &str = ".unfinished-";
/// How many are kept at most, and how many bytes altogether; some are kept however large they are.
const KEPT: usize = 24;
const KEPT_BYTES: u64 = 4 << 30;
const KEPT_ALWAYS: usize = 2;
/// After the start, and after a failure, it is tried again after this time, or after the usual one if that is shorter.
const SOON: Duration = Duration::from_secs(60);

/// Writes an export into `directory` every so often, until what is given back is dropped.
///
/// Must be called inside a [`tokio::task::LocalSet`].
pub(crate) fn keep_exporting(
    store: StoreHandle,
    directory: PathBuf,
    every: Duration,
    space: Option<SpaceGuard>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::task::spawn_local(async move {
        let soon = SOON.min(every);
        let mut wait = soon;
        loop {
            tokio::time::sleep(wait).await;
            let (store, directory, space) = (store.clone(), directory.clone(), space.clone());
            // Ends with the store when the scheduler stops.
            let exported = tokio::task::spawn_blocking(move || {
                export_if_due(&store, &directory, every, space.as_ref())
            });
            wait = match exported.await {
                Ok(Ok(Done::NotDue(left))) => left.max(soon),
                Ok(Ok(Done::Exported(file, exported))) => {
                    tell(&file, &exported);
                    every
                }
                Ok(Err(error)) => {
                    warn!(%error, "Cannot export the store");
                    soon
                }
                Err(crashed) => {
                    warn!(%crashed, "Cannot export the store");
                    every
                }
            };
        }
    }))
}

fn tell(file: &Path, exported: &Exported) {
    info!(
        rows = exported.rows,
        jobs = exported.jobs,
        "Exported the store to {}",
        file.display()
    );
    if let Some(first) = exported.damaged.first() {
        warn!(
            jobs = exported.damaged.len(),
            %first,
            "Descriptions of jobs are damaged and not in the export; these jobs will fail when their turn comes"
        );
    }
}

/// What a look came to.
#[derive(Debug)]
enum Done {
    /// The last export is young enough: there is this much time left.
    NotDue(Duration),
    /// There is a new file.
    Exported(PathBuf, Exported),
}

fn export_if_due(
    store: &StoreHandle,
    directory: &Path,
    every: Duration,
    space: Option<&SpaceGuard>,
) -> io::Result<Done> {
    make_directory(directory)?;
    let newest = exports(directory)?.pop();
    let age = newest.and_then(|newest| newest.written.elapsed().ok());
    if let Some(left) = age.and_then(|age| every.checked_sub(age))
        && !left.is_zero()
    {
        return Ok(Done::NotDue(left));
    }
    let exported = export(store, directory, SystemTime::now(), space)?;
    prune(directory)?;
    Ok(exported)
}

/// Jobs' outputs and the names of clients are nobody else's business.
fn make_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn export(
    store: &StoreHandle,
    directory: &Path,
    now: SystemTime,
    space: Option<&SpaceGuard>,
) -> io::Result<Done> {
    let file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(directory)?;
    let to = Polite { file: &file, space };
    let exported = chores::export(Source::Live(store), to).map_err(io::Error::other)?;
    let name = format!("{}{SUFFIX}", humantime_name(now));
    let path = directory.join(name);
    settle(file, &path)?;
    Ok(Done::Exported(path, exported))
}

/// Puts a file in its place when it is on disk, replacing none.
pub(crate) fn settle(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// A time for the name of a file, such as `2026-01-31T23-59-59Z`.
fn humantime_name(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time)
        .to_string()
        .replace(':', "-")
}

/// Stops writing when the disk gets short of room.
struct Polite<'a> {
    file: &'a NamedTempFile,
    space: Option<&'a SpaceGuard>,
}

impl Write for Polite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.space.is_some_and(SpaceGuard::is_short) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk is short of room, which is left to jobs",
            ));
        }
        self.file.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file().flush()
    }
}

/// An export that is there.
struct Found {
    path: PathBuf,
    length: u64,
    written: SystemTime,
}

/// The exports that are there, oldest first. What an earlier run left unfinished is removed.
fn exports(directory: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(UNFINISHED) {
            // It will be tried again next time.
            let _ = fs::remove_file(entry.path());
        } else if name.ends_with(SUFFIX) {
            let about = entry.metadata()?;
            found.push(Found {
                path: entry.path(),
                length: about.len(),
                written: about.modified()?,
            });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Removes the oldest exports when there are too many, or they take too much room.
fn prune(directory: &Path) -> io::Result<()> {
    let mut bytes = 0_u64;
    for (count, found) in exports(directory)?.iter().rev().enumerate() {
        bytes = bytes.saturating_add(found.length);
        if count >= KEPT || (count >= KEPT_ALWAYS && bytes > KEPT_BYTES) {
            fs::remove_file(&found.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ocluster_store::{Change, MemoryStore, SledOptions, SledStore, Store as _, Writer};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn filled() -> Writer {
        let writer = Writer::inline(Box::new(MemoryStore::new()));
        let client = Change::ClientAdded {
            hash: [7; 32],
            client: "alice".to_owned(),
            created_day: 20_000,
        };
        writer.handle().commit(vec![client]).await.unwrap();
        writer
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_new_store_can_be_made_from_an_export() {
        let writer = filled().await;
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("export");
        let done = export_if_due(&writer.handle(), &directory, HOUR, None).unwrap();
        let Done::Exported(file, exported) = done else {
            panic!("{done:?}")
        };
        assert_eq!(exported.rows, 1);
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let options = SledOptions::default();
        chores::import(File::open(file).unwrap(), &state, options).unwrap();
        let known = SledStore::open(&state, options).unwrap().load(0).unwrap();
        assert_eq!(known.clients.len(), 1);
        assert_eq!(known.clients[0].client, "alice");
    }

    #[tokio::test]
    async fn the_next_export_waits_its_time_also_after_a_restart() {
        let writer = filled().await;
        let dir = tempfile::tempdir().unwrap();
        let export = || export_if_due(&writer.handle(), dir.path(), HOUR, None).unwrap();
        assert!(matches!(export(), Done::Exported(..)));
        let done = export();
        assert!(
            matches!(done, Done::NotDue(left) if left > Duration::from_secs(3000)),
            "{done:?}"
        );
        assert_eq!(names(dir.path()).len(), 1);
    }

    #[tokio::test]
    async fn on_a_disk_that_is_short_of_room_nothing_is_exported_and_nothing_is_left() {
        let writer = filled().await;
        let dir = tempfile::tempdir().unwrap();
        let short = SpaceGuard::seen(1, 2);
        let error = export_if_due(&writer.handle(), dir.path(), HOUR, Some(&short)).unwrap_err();
        assert!(error.to_string().contains("short of room"), "{error}");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn the_last_day_is_kept_and_what_is_unfinished_or_not_ours_is_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        for n in 10..40 {
            fs::write(dir.path().join(format!("20{n}{SUFFIX}")), "x").unwrap();
        }
        fs::write(dir.path().join(".unfinished-1"), "x").unwrap();
        fs::write(dir.path().join("notes"), "x").unwrap();
        prune(dir.path()).unwrap();
        let names = names(dir.path());
        assert_eq!(names.len(), KEPT + 1);
        assert_eq!(names[0], "2016.jsonl.zst");
        assert_eq!(names[KEPT], "notes");
    }

    #[test]
    fn large_exports_are_kept_for_less_long() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..5 {
            let file = File::create(dir.path().join(format!("{n}{SUFFIX}"))).unwrap();
            // Sparse: it takes no room.
            file.set_len(KEPT_BYTES).unwrap();
        }
        prune(dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["3.jsonl.zst", "4.jsonl.zst"]);
    }

    #[test]
    fn names_are_in_the_order_of_their_times() {
        let at = |secs| humantime_name(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(1_800_000_000), "2027-01-15T08-00-00Z");
        assert!(at(1_800_000_000) < at(1_800_000_001));
    }
}
