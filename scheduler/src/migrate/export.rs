//! From our store into a database for OCluster's scheduler: written beside its place, and put there when it is whole.

use std::fs::File;
use std::path::Path;

use ocluster_store::{SledOptions, SledStore, Store as _};
use tempfile::NamedTempFile;

use super::args::ExportArgs;
use super::error::MigrateError;
use super::report::{Done, Report};
use super::source::beside;
use super::write::write;

/// Writes a database that OCluster's scheduler opens.
///
/// # Errors
/// If a scheduler uses the state directory, there is nothing to export, or a database where one is to be written.
pub fn export(args: &ExportArgs) -> Result<Report, MigrateError> {
    let (to, dir) = (&args.to, &args.state_dir);
    // SQLite would read an old log into the new database.
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = beside(to, suffix);
        if path.symlink_metadata().is_ok() {
            return Err(MigrateError::Exists { path });
        }
    }
    if !SledStore::exists(dir) {
        return Err(MigrateError::NoStore { dir: dir.clone() });
    }
    let store = SledStore::open(dir, SledOptions::default())?;
    let state = store.load(0)?;
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let cannot = || format!("write {}", to.display());
    let file = NamedTempFile::new_in(parent).map_err(MigrateError::io(cannot()))?;
    write(file.path(), &state).map_err(MigrateError::sqlite(cannot()))?;
    let put = || {
        file.as_file().sync_all()?;
        file.persist_noclobber(to).map_err(|error| error.error)?;
        File::open(parent)?.sync_all()
    };
    put().map_err(|error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => MigrateError::Exists { path: to.clone() },
        _ => MigrateError::io(cannot())(error),
    })?;
    Ok(Report::new(Done::Exported, dir, to, &state))
}
