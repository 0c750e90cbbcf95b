//! Why a database could not be brought over or written, in words that end with what to do next.

use std::io;
use std::path::PathBuf;

use ocluster_store::StoreError;

/// Why a chore was not done. Nothing was changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The system refused to read or write a file.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot {what}: {source}")]
    Sqlite {
        /// What was tried, on what.
        what: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Another process has the database open.
    #[error(
        "{} is in use by {}: stop OCluster's scheduler, then try again",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The other process, if it can be told.
        pid: Option<i32>,
    },
    /// The file is something else.
    #[error(
        "{} is not a database of OCluster's scheduler: {what}; the right one is called scheduler.db and lies in the state directory of that scheduler",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, or lacks.
        what: String,
    },
    /// The database is half of one, or its pages contradict each other.
    #[error(
        "{} is damaged: {what}; take it from a backup, together with the -wal file beside it, or let `sqlite3 {} .recover` save what is left",
        path.display(),
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        what: String,
    },
    /// The database has parts we do not know.
    #[error(
        "{} has {what}, which this program does not know: the database may come from a newer OCluster, and something could get lost; use a newer version of this program, or remove what is too much from a copy",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is not known, by its names.
        what: String,
    },
    /// A row is not as OCluster writes it.
    #[error(
        "{}, table {table}, row ({row}): {column} is {found}, and should be {expected}; mend or delete the row in a copy with sqlite3, and import that",
        path.display()
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row, by its key.
        row: String,
        /// The column.
        column: &'static str,
        /// What it holds.
        found: String,
        /// What OCluster writes there.
        expected: &'static str,
    },
    /// There is something already that an import would add to.
    #[error(
        "the store in {} already has {has}: give an empty state directory, or --replace to drop them",
        dir.display()
    )]
    NotEmpty {
        /// The state directory.
        dir: PathBuf,
        /// What is there, with counts.
        has: String,
    },
    /// The file to write exists.
    #[error("{} exists already: move it away, or give another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to export.
    #[error("there is no store in {}: give the --state-dir of the scheduler to export from", dir.display())]
    NoStore {
        /// The state directory.
        dir: PathBuf,
    },
    /// A scheduler would start as if it had never known anybody, beside a database which does.
    #[error(
        "{} is a database of OCluster's scheduler, and nothing was imported from it: run `ocluster-scheduler import --from {} --state-dir {}` first, or move it away to start empty",
        path.display(),
        path.display(),
        dir.display()
    )]
    NotImported {
        /// The database.
        path: PathBuf,
        /// The state directory.
        dir: PathBuf,
    },
    /// Our own store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MigrateError {
    /// Makes the system's error one of ours.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Makes SQLite's error one of ours.
    pub(super) fn sqlite(what: impl Into<String>) -> impl FnOnce(rusqlite::Error) -> Self {
        let what = what.into();
        move |source| Self::Sqlite { what, source }
    }
}
