//! What the database of OCluster's scheduler looks like. These names and types are on people's disks, and OCluster's scheduler looks
//! at the type of each value it reads: texts must be TEXT, hashes and client ids BLOB, rates REAL.

use std::path::Path;

use rusqlite::Connection;

use super::error::MigrateError;

/// A table.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns that make a row unique.
    pub(super) key: &'static [&'static str],
    columns: &'static [&'static str],
    definition: &'static str,
}

/// Which worker holds the cache for which hint.
pub(super) const CACHED: Table = Table {
    name: "cached",
    key: &["pool", "cache_hint", "worker"],
    columns: &["pool", "cache_hint", "worker", "created"],
    definition: "pool TEXT NOT NULL, cache_hint TEXT NOT NULL, worker TEXT NOT NULL, created DATETIME NOT NULL, \
                 PRIMARY KEY (pool, cache_hint, worker)",
};
/// How many jobs a client may expect to run at once.
pub(super) const RATES: Table = Table {
    name: "pool_user_rate",
    key: &["pool", "user"],
    columns: &["pool", "user", "rate"],
    definition: "pool TEXT NOT NULL, user TEXT NOT NULL, rate REAL NOT NULL, PRIMARY KEY (pool, user)",
};
/// The workers that were seen, and who paused them.
pub(super) const WORKERS: Table = Table {
    name: "workers",
    key: &["pool", "id"],
    columns: &["pool", "id", "paused"],
    definition: "pool TEXT NOT NULL, id TEXT NOT NULL, paused BOOLEAN DEFAULT 0, PRIMARY KEY (pool, id)",
};
/// Whose submissions are accepted.
pub(super) const STURDY_REFS: Table = Table {
    name: "sturdy_refs",
    key: &["hash"],
    columns: &["hash", "type", "args", "created"],
    definition: "hash BLOB NOT NULL, type TEXT NOT NULL, args BLOB NOT NULL, created DATETIME NOT NULL, PRIMARY KEY (hash)",
};
const TABLES: [&Table; 4] = [&CACHED, &RATES, &WORKERS, &STURDY_REFS];

/// The `type` of a client's sturdy ref, the only one there is.
pub(super) const CLIENT_TYPE: &str = "ocluster-client";

/// Makes the tables, in an empty database.
pub(super) fn create(database: &Connection) -> rusqlite::Result<()> {
    for table in TABLES {
        let (name, definition) = (table.name, table.definition);
        database.execute_batch(&format!("CREATE TABLE {name} ({definition})"))?;
    }
    database.execute_batch("CREATE INDEX sturdy_refs_rev ON sturdy_refs (type, args)")
}

/// Holds what a database has against what it should have.
///
/// # Errors
/// If it is another program's, or has something that we do not know and would leave behind.
pub(super) fn check(database: &Connection, path: &Path) -> Result<(), MigrateError> {
    let found = tables(database).map_err(MigrateError::sqlite(format!(
        "read the tables of {}",
        path.display()
    )))?;
    let has = |name: &str| found.iter().any(|(known, _)| known == name);
    let missing: Vec<&str> = TABLES
        .iter()
        .map(|table| table.name)
        .filter(|name| !has(name))
        .collect();
    if missing.len() == TABLES.len() {
        let what = match found.first() {
            None => "it has no tables".to_owned(),
            Some((other, _)) => format!("it has another program's tables, such as \"{other}\""),
        };
        return Err(foreign(path, what));
    }
    let mut unknown: Vec<String> = Vec::new();
    for (name, columns) in &found {
        let Some(table) = TABLES.iter().find(|table| table.name == name) else {
            unknown.push(format!("a table or view \"{name}\""));
            continue;
        };
        let is_known = |column: &&String| table.columns.contains(&column.as_str());
        let strange = columns.iter().filter(|column| !is_known(column));
        unknown.extend(strange.map(|column| format!("a column \"{column}\" in its table {name}")));
    }
    if !unknown.is_empty() {
        return Err(MigrateError::Newer {
            path: path.to_owned(),
            what: unknown.join(", "),
        });
    }
    if !missing.is_empty() {
        let what = format!(
            "it lacks the table {}, which every scheduler of OCluster makes when it starts",
            missing.join(" and the table ")
        );
        return Err(foreign(path, what));
    }
    for table in TABLES {
        let columns = found.iter().find(|(name, _)| name == table.name);
        let columns = columns.map_or(&[][..], |(_, columns)| columns.as_slice());
        let lacks = |column: &&&str| !columns.iter().any(|found| found == **column);
        if let Some(column) = table.columns.iter().find(lacks) {
            let name = table.name;
            return Err(foreign(
                path,
                format!("its table {name} has no column {column}"),
            ));
        }
    }
    Ok(())
}

fn foreign(path: &Path, what: String) -> MigrateError {
    MigrateError::Foreign {
        path: path.to_owned(),
        what,
    }
}

/// All tables and views but SQLite's own, each with its columns.
fn tables(database: &Connection) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let mut names = database.prepare(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names: Vec<String> = names
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut columns = database.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    let with_columns = names.into_iter().map(|name| {
        let columns = columns
            .query_map([&name], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok((name, columns))
    });
    with_columns.collect()
}
