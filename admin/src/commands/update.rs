//! `update`: workers restart as a newer version.
//!
//! Of a whole pool one worker goes first: if the new version is no good, the others stay as they are.

use futures::future::join_all;
use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::Vat;

use super::{cluster, reports};
use crate::args::Update;
use crate::cluster::{CallError, Pool, Worker};

pub(super) async fn update(args: &Update, vat: &Vat) -> Result<ExitCode, Failure> {
    let pool = cluster(&args.cap, vat).await?.pool(&args.pool);
    match &args.worker {
        Some(worker) => one(&pool, worker).await,
        None => all(&pool).await,
    }
}

async fn one(pool: &Pool, worker: &str) -> Result<ExitCode, Failure> {
    match restart(pool, worker).await {
        Ok(()) => {
            output::line("Restarted")?;
            Ok(ExitCode::Success)
        }
        Err(CallError { error, .. }) => {
            output::line(error.to_string())?;
            Ok(ExitCode::Failed)
        }
    }
}

async fn all(pool: &Pool) -> Result<ExitCode, Failure> {
    let (connected, away): (Vec<Worker>, Vec<Worker>) = pool
        .workers()
        .await?
        .into_iter()
        .partition(|worker| worker.connected);
    let Some((canary, others)) = connected.split_first() else {
        return Err(Failure::failed("No workers connected to pool!"));
    };
    output::line(format!(
        "Testing update on first worker in pool: {:?}",
        canary.name
    ))?;
    if let Err(CallError { error, .. }) = restart(pool, &canary.name).await {
        output::line(error.to_string())?;
        return Ok(ExitCode::Failed);
    }
    let names: Vec<&str> = others.iter().map(|worker| worker.name.as_str()).collect();
    output::line(format!(
        "Canary updated OK. Updating the others: [{}]",
        names.join(" ")
    ))?;
    let results = join_all(names.iter().map(|name| restart_and_tell(pool, name))).await;
    // Every update has ended by now; only then does it matter that one could not be told.
    let updated: Vec<bool> = results.into_iter().collect::<std::io::Result<_>>()?;
    if updated.contains(&false) {
        return Err(Failure::failed("Failed update(s)"));
    }
    output::line("All pool workers restarted.")?;
    if !away.is_empty() {
        output::line("WARNING: disconnected workers not updated:")?;
        away.iter()
            .try_for_each(|worker| output::line(format!("  {}", worker.name)))?;
    }
    Ok(ExitCode::Success)
}

/// Whether it worked.
async fn restart_and_tell(pool: &Pool, worker: &str) -> std::io::Result<bool> {
    match restart(pool, worker).await {
        Ok(()) => output::line(format!("{worker:?} restarted OK.")).map(|()| true),
        Err(CallError { error, .. }) => {
            output::line(format!("{worker:?}: {error}")).map(|()| false)
        }
    }
}

async fn restart(pool: &Pool, worker: &str) -> Result<(), CallError> {
    pool.update(worker, reports(OutputMode::Human, worker))
        .await
}
