//! Databases as OCluster's scheduler makes them: its statements, its types, its write-ahead log.

use std::path::{Path, PathBuf};

use ocluster_cli::testing::Shell;
use rusqlite::Connection;

/// What a scheduler of OCluster does to its database when it starts.
const START: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS cached (pool TEXT NOT NULL, cache_hint TEXT NOT NULL, worker TEXT NOT NULL,
        created DATETIME NOT NULL, PRIMARY KEY (pool, cache_hint, worker));
    CREATE TABLE IF NOT EXISTS pool_user_rate (pool TEXT NOT NULL, user TEXT NOT NULL, rate REAL NOT NULL,
        PRIMARY KEY (pool, user));
    CREATE TABLE IF NOT EXISTS workers (pool TEXT NOT NULL, id TEXT NOT NULL, paused BOOLEAN DEFAULT 0,
        PRIMARY KEY (pool, id));
    CREATE TABLE IF NOT EXISTS sturdy_refs (hash BLOB NOT NULL, type TEXT NOT NULL, args BLOB NOT NULL,
        created DATETIME NOT NULL, PRIMARY KEY (hash));
    CREATE INDEX IF NOT EXISTS sturdy_refs_rev ON sturdy_refs (type, args);
";

/// A small cluster: two clients, three workers of which one is paused, hints, rates.
pub(crate) const SMALL: &str = "
    INSERT INTO workers (pool, id, paused) VALUES ('linux', 'w1', 0), ('linux', 'w2', 1);
    INSERT INTO workers (pool, id) VALUES ('arm', 'é 1');
    INSERT INTO cached VALUES ('linux', 'https://example.org/app', 'w1', '2026-11-01'),
        ('linux', 'https://example.org/app', 'w2', '2026-11-02'), ('linux', '', 'w2', '2026-11-02'),
        ('arm', 'line' || char(10) || 'feed', 'é 1', '1970-01-01');
    INSERT INTO pool_user_rate VALUES ('linux', 'alice', 2), ('arm', 'bob', 0.4);
    INSERT INTO sturdy_refs VALUES
        (x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'ocluster-client', CAST('alice' AS BLOB), '2020-02-29'),
        (x'ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff', 'ocluster-client', CAST('bob' AS BLOB), '2026-11-20');
";

/// The program, in a directory of its own, where the databases lie.
pub(crate) fn shell() -> Shell {
    Shell::new(env!("CARGO_BIN_EXE_ocluster-scheduler"))
}

/// Makes a database at `path`, runs `sql` in it, and leaves it open.
pub(crate) fn database(path: &Path, sql: &str) -> Connection {
    let database = Connection::open(path).unwrap();
    database.execute_batch(START).unwrap();
    database.execute_batch(sql).unwrap();
    database
}

/// Makes a database in the shell's directory, closed.
pub(crate) fn closed(shell: &Shell, name: &str, sql: &str) -> PathBuf {
    let path = shell.directory().join(name);
    database(&path, sql).close().unwrap();
    path
}

/// The definition of every table, column and index, and every value with its type.
pub(crate) fn dump(path: &Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let mut lines = Vec::new();
    let mut ask = |query: &str| {
        let mut statement = database.prepare(query).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap()));
            lines.push(format!(
                "{query}: {}",
                cells.collect::<Vec<_>>().join(" | ")
            ));
        }
    };
    ask("PRAGMA journal_mode");
    for table in ["cached", "pool_user_rate", "sturdy_refs", "workers"] {
        ask(&format!("PRAGMA table_info({table})"));
        ask(&format!("PRAGMA index_list({table})"));
        ask(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3"));
    }
    ask("PRAGMA index_info(sturdy_refs_rev)");
    ask("PRAGMA integrity_check");
    lines
}

/// Every file below the directory with its content; what a chore must not change.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                found.push((path, content));
            }
        }
    }
    found.sort();
    found
}
