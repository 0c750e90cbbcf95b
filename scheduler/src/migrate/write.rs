//! Plain types, as OCluster's rows.

use std::path::Path;

use ocluster_scheduling::Day;
use ocluster_store::Snapshot;
use rusqlite::{Connection, params};

use super::schema::{self, CLIENT_TYPE};

/// Makes the file at `path`, which is empty, a database that remembers `state`. The file is whole when this returns, but not yet
/// flushed to the disk.
///
/// # Errors
/// SQLite's.
pub(super) fn write(path: &Path, state: &Snapshot) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    // As OCluster's scheduler sets it. It is a property of the file.
    database.pragma_update(None, "journal_mode", "WAL")?;
    let all = database.transaction()?;
    schema::create(&all)?;
    insert(&all, state)?;
    all.commit()?;
    // Closing moves everything from the log into the file, and removes the log.
    database.close().map_err(|(_, error)| error)
}

fn insert(database: &Connection, state: &Snapshot) -> rusqlite::Result<()> {
    let mut workers =
        database.prepare("INSERT INTO workers (pool, id, paused) VALUES (?1, ?2, ?3)")?;
    for worker in &state.workers {
        workers.execute(params![worker.pool, worker.name, i64::from(worker.paused)])?;
    }
    let mut hints = database.prepare(
        "INSERT INTO cached (pool, cache_hint, worker, created) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for hint in &state.hints {
        hints.execute(params![hint.pool, hint.hint, hint.worker, date(hint.day)])?;
    }
    let mut rates =
        database.prepare("INSERT INTO pool_user_rate (pool, user, rate) VALUES (?1, ?2, ?3)")?;
    for rate in &state.rates {
        rates.execute(params![rate.pool, rate.client, rate.rate])?;
    }
    let mut clients = database
        .prepare("INSERT INTO sturdy_refs (hash, type, args, created) VALUES (?1, ?2, ?3, ?4)")?;
    for client in &state.clients {
        let (hash, id) = (client.hash.as_slice(), client.client.as_bytes());
        clients.execute(params![hash, CLIENT_TYPE, id, date(client.created_day)])?;
    }
    Ok(())
}

/// The day, as `date('now')` gave it.
fn date(day: u32) -> String {
    Day(i32::try_from(day).unwrap_or(i32::MAX)).to_string()
}
