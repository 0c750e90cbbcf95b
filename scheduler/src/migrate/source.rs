//! Opening a database of OCluster's scheduler without leaving a trace on it.
//!
//! SQLite writes even when it only reads: it makes an index of the write-ahead log, recovers what a crash left, and tidies up when it
//! closes. So what is opened is a private copy, log included, taken while nobody has the original open.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use tempfile::TempDir;

use super::error::MigrateError;
use super::schema;

/// How every SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The bytes which SQLite locks in the database itself, as its file format says.
const DATABASE_LOCKS: (u64, u64) = (0x4000_0000, 512);
/// The bytes which SQLite locks in the index of the write-ahead log; whoever has the database open holds one of them.
const WAL_INDEX_LOCKS: (u64, u64) = (120, 9);

/// A copy of a database, which is whole and of the right kind.
pub(super) struct Source {
    pub(super) database: Connection,
    /// Removes the copy.
    _directory: TempDir,
}

impl Source {
    /// Copies the database at `path` and looks at all its pages.
    ///
    /// # Errors
    /// If there is none, somebody uses it, or it is not whole.
    pub(super) fn open(path: &Path) -> Result<Self, MigrateError> {
        let read = || MigrateError::io(format!("read {}", path.display()));
        let metadata = fs::metadata(path).map_err(read())?;
        if !metadata.is_file() {
            return Err(foreign(path, "it is not a file"));
        }
        refuse_if_used(path).map_err(read())??;
        let mut beginning = Vec::new();
        let file = File::open(path).map_err(read())?;
        file.take(MAGIC.len() as u64)
            .read_to_end(&mut beginning)
            .map_err(read())?;
        if beginning.is_empty() {
            return Err(foreign(path, "it is empty"));
        }
        if beginning != MAGIC {
            return Err(foreign(path, "it is not an SQLite database"));
        }
        let directory = tempfile::tempdir().map_err(MigrateError::io(
            "make a temporary directory to read a copy of the database in",
        ))?;
        let copy = directory.path().join("copy.db");
        // The write-ahead log may hold the last changes, and a journal what was there before a change that was cut off.
        for suffix in ["", "-wal", "-journal"] {
            let part = beside(path, suffix);
            match fs::copy(&part, beside(&copy, suffix)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound && !suffix.is_empty() => {}
                Err(error) => {
                    return Err(MigrateError::io(format!("copy {}", part.display()))(error));
                }
            }
        }
        let database = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| refusal(path, error))?;
        check_pages(&database, path)?;
        schema::check(&database, path)?;
        Ok(Self {
            database,
            _directory: directory,
        })
    }
}

/// The file that SQLite keeps beside a database under this suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether another process has the database open. The outer error is the system's.
fn refuse_if_used(path: &Path) -> std::io::Result<Result<(), MigrateError>> {
    let places = [
        (path.to_owned(), DATABASE_LOCKS),
        (beside(path, "-shm"), WAL_INDEX_LOCKS),
    ];
    for (file, (start, length)) in places {
        let file = match File::open(file) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let wanted = Flock {
            start,
            length,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        if let Some(held) = fcntl_getlk(&file, &wanted)? {
            return Ok(Err(MigrateError::InUse {
                path: path.to_owned(),
                pid: held.pid.map(|pid| pid.as_raw_nonzero().get()),
            }));
        }
    }
    Ok(Ok(()))
}

fn check_pages(database: &Connection, path: &Path) -> Result<(), MigrateError> {
    let verdict: Result<String, _> =
        database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(complaint) => Err(MigrateError::Damaged {
            path: path.to_owned(),
            what: complaint.trim().replace('\n', " "),
        }),
        Err(error) => Err(refusal(path, error)),
    }
}

/// What SQLite's refusal to read means.
pub(super) fn refusal(path: &Path, error: rusqlite::Error) -> MigrateError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign(path, "it is not an SQLite database"),
        Some(ErrorCode::DatabaseCorrupt) => MigrateError::Damaged {
            path: path.to_owned(),
            what: error.to_string(),
        },
        _ => MigrateError::Sqlite {
            what: format!("read {}", path.display()),
            source: error,
        },
    }
}

fn foreign(path: &Path, what: &str) -> MigrateError {
    MigrateError::Foreign {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}
