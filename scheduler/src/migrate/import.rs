//! From OCluster's database into our store: in one batch, which is there whole or not at all.

use std::fs::{self, File};
use std::path::Path;

use ocluster_store::{Change, SledOptions, SledStore, Snapshot, Store as _};

use super::args::ImportArgs;
use super::error::MigrateError;
use super::read::read;
use super::report::{Done, Report, contents};

/// What OCluster's scheduler calls its database.
const DATABASE: &str = "scheduler.db";
/// The file in a state directory that says that something was imported into it, be it nothing.
const IMPORTED: &str = "imported";

/// Brings over what a scheduler of OCluster has remembered.
///
/// # Errors
/// If the database cannot be trusted, somebody uses it or the state directory, or there is something to remember there already. The
/// store is then as it was.
pub fn import(args: &ImportArgs) -> Result<Report, MigrateError> {
    let found = read(&args.from)?;
    let dir = &args.state_dir;
    let report = |done| Report::new(done, &args.from, dir, &found);
    if args.dry_run && !SledStore::exists(dir) {
        return Ok(report(Done::WouldImport));
    }
    let store = SledStore::open(dir, SledOptions::default())?;
    let held = store.load(0)?;
    let has = contents(&held);
    if !has.is_empty() && !args.replace {
        return Err(MigrateError::NotEmpty {
            dir: dir.clone(),
            has,
        });
    }
    if args.dry_run {
        return Ok(report(Done::WouldImport));
    }
    let mut batch = drops(held);
    batch.extend(additions(&found));
    store.apply(&batch)?;
    mark(dir)?;
    Ok(report(Done::Imported))
}

/// Notes, on the disk when this returns, that there was an import: what was brought over may have been nothing, or be removed later.
fn mark(dir: &Path) -> Result<(), MigrateError> {
    let path = dir.join(IMPORTED);
    let written = fs::write(&path, "")
        .and_then(|()| File::open(&path)?.sync_all())
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(MigrateError::io(format!("write {}", path.display())))
}

/// What makes the store remember nothing of that kind.
fn drops(held: Snapshot) -> Vec<Change> {
    let clients = held.clients.into_iter().map(|client| client.client);
    let mut clients: Vec<String> = clients.collect();
    clients.dedup();
    let clients = clients
        .into_iter()
        .map(|client| Change::ClientRemoved { client });
    let workers = held
        .workers
        .into_iter()
        .map(|worker| Change::WorkerForgotten {
            pool: worker.pool,
            name: worker.name,
        });
    let hints = held.hints.into_iter().map(|hint| Change::HintDropped {
        pool: hint.pool,
        hint: hint.hint,
        worker: hint.worker,
    });
    let rates = held.rates.into_iter().map(|rate| Change::RateDropped {
        pool: rate.pool,
        client: rate.client,
    });
    clients.chain(workers).chain(hints).chain(rates).collect()
}

/// What makes an empty store remember all that.
fn additions(found: &Snapshot) -> impl Iterator<Item = Change> {
    let clients = found.clients.iter().map(|client| Change::ClientAdded {
        hash: client.hash,
        client: client.client.clone(),
        created_day: client.created_day,
    });
    let workers = found.workers.iter().map(|worker| Change::WorkerKnown {
        pool: worker.pool.clone(),
        name: worker.name.clone(),
        paused: worker.paused,
        pause: None,
    });
    let hints = found.hints.iter().map(|hint| Change::HintCached {
        pool: hint.pool.clone(),
        hint: hint.hint.clone(),
        worker: hint.worker.clone(),
        day: hint.day,
    });
    let rates = found.rates.iter().map(|rate| Change::RateSet {
        pool: rate.pool.clone(),
        client: rate.client.clone(),
        rate: rate.rate,
    });
    clients.chain(workers).chain(hints).chain(rates)
}

/// Refuses to start as if nobody had ever been known beside a database of OCluster's scheduler that may know them: its clients would
/// be turned away, and its paused workers given jobs. `known` is what our store remembers; none if there is no store, and then there was
/// no import into it either.
///
/// # Errors
/// [`MigrateError::NotImported`].
pub(crate) fn refuse_to_forget(dir: &Path, known: Option<&Snapshot>) -> Result<(), MigrateError> {
    let path = dir.join(DATABASE);
    let forgets =
        known.is_none_or(|known| contents(known).is_empty() && !dir.join(IMPORTED).exists());
    if forgets && path.exists() {
        return Err(MigrateError::NotImported {
            path,
            dir: dir.to_owned(),
        });
    }
    Ok(())
}
