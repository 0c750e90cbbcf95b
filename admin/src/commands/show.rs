//! `show`: the pools, one pool, or one worker.

use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::Vat;
use serde::Serialize;

use super::cluster;
use super::descriptions::{JsonDescription, table};
use super::workers::JsonWorker;
use crate::args::Show;
use crate::cluster::{Cluster, Pool};

#[derive(Serialize)]
struct Pools<'a> {
    pools: &'a [String],
}

#[derive(Serialize)]
struct PoolState<'a> {
    pool: &'a str,
    workers: Vec<JsonWorker<'a>>,
    /// The text people are shown. It is not meant to be parsed.
    state: &'a str,
}

#[derive(Serialize)]
struct WorkerState<'a> {
    pool: &'a str,
    worker: &'a str,
    /// Whether the pool knows it.
    known: bool,
    connected: bool,
    paused: bool,
    /// What only our own schedulers tell.
    #[serde(flatten)]
    more: Option<JsonDescription<'a>>,
}

pub(super) async fn show(args: &Show, vat: &Vat) -> Result<ExitCode, Failure> {
    let cluster = cluster(&args.cap, vat).await?;
    match (&args.pool, &args.worker) {
        (None, _) => pools(&cluster, args).await?,
        (Some(name), None) => pool(&cluster.pool(name), name, args).await?,
        (Some(name), Some(worker_name)) => {
            worker(&cluster.pool(name), name, worker_name, args).await?
        }
    }
    Ok(ExitCode::Success)
}

async fn pools(cluster: &Cluster, args: &Show) -> Result<(), Failure> {
    let pools = cluster.pools().await?;
    match args.output.output {
        OutputMode::Json => output::json(Pools { pools: &pools })?,
        OutputMode::Human => lines(&pools)?,
    }
    Ok(())
}

async fn pool(pool: &Pool, name: &str, args: &Show) -> Result<(), Failure> {
    match (args.output.output, args.terse) {
        (OutputMode::Human, false) if args.workers => {
            let Some(described) = pool.describe().await? else {
                let sentence =
                    "This scheduler tells no more of its workers than \"show POOL\" does.";
                return Err(Failure::failed(sentence));
            };
            output::line(table(&described).to_string().trim_end())?;
        }
        (OutputMode::Human, false) => output::line(pool.show().await?.trim())?,
        (OutputMode::Human, true) => {
            let names: Vec<String> = pool
                .workers()
                .await?
                .into_iter()
                .map(|worker| worker.name)
                .collect();
            lines(&names)?;
        }
        (OutputMode::Json, _) => {
            let (workers, described, state) =
                futures::try_join!(pool.workers(), pool.describe(), pool.show())?;
            let workers = match &described {
                Some(described) => described.iter().map(JsonWorker::from).collect(),
                None => workers.iter().map(JsonWorker::from).collect(),
            };
            output::json(PoolState {
                pool: name,
                workers,
                state: state.trim(),
            })?;
        }
    }
    Ok(())
}

async fn worker(pool: &Pool, pool_name: &str, name: &str, args: &Show) -> Result<(), Failure> {
    let workers = pool.workers().await?;
    let found = workers.iter().find(|worker| worker.name == name);
    if args.output.output == OutputMode::Json {
        let described = pool.describe().await?.unwrap_or_default();
        let more = described.iter().find(|worker| worker.name == name);
        let paused = found.is_some_and(|worker| !worker.active);
        let connected = found.is_some_and(|worker| worker.connected);
        output::json(WorkerState {
            pool: pool_name,
            worker: name,
            known: found.is_some(),
            connected,
            paused,
            more: more.map(JsonDescription::from),
        })?;
        return Ok(());
    }
    // "Running" has always meant "not paused" here, whether or not the worker is connected.
    let state = match found {
        Some(worker) if worker.active => "Running",
        Some(_) => "Paused",
        None => "Not found",
    };
    output::line(if args.terse {
        state.to_owned()
    } else {
        format!("{name}: {state}")
    })?;
    Ok(())
}

fn lines(names: &[String]) -> std::io::Result<()> {
    names.iter().try_for_each(output::line)
}
