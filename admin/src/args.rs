//! The command line of `ocluster-admin`.

use clap::{Args, Parser, Subcommand};
use ocluster_cli::{CapArgs, LogArgs, OutputMode};
use thiserror::Error;

/// Manage a cluster: its clients, pools and workers.
///
/// CAP is the admin.cap file which the scheduler writes, or the URI in it. The exit code is 0 on success, 1 if the scheduler
/// refused or could not be reached, 124 for a mistake on the command line, and 130 or 143 if the program was interrupted or
/// terminated.
#[derive(Debug, Parser)]
#[command(name = "ocluster-admin", version)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How to log.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Give a new client access to the cluster, and print the capability it submits jobs with.
    AddClient(AddClient),
    /// Take a client's access away. Its running jobs go on.
    RemoveClient(Client),
    /// Print the ids of all clients.
    ListClients(ListClients),
    /// Set how many jobs a client may expect to have running at once in a pool.
    SetRate(SetRate),
    /// Print the pools; the state of one; or the state of one of its workers.
    Show(Show),
    /// Run a command for each worker of a pool, all at the same time.
    Exec(Exec),
    /// Stop giving jobs to workers. It stays so until they are unpaused, even if they or the scheduler restart.
    Pause(Pause),
    /// Give jobs to paused workers again.
    Unpause(Unpause),
    /// Have workers finish their jobs and restart as a newer version: one worker, or the whole pool, one of them first.
    Update(Update),
    /// Forget a worker that is not connected.
    Forget(Forget),
}

/// Who reads what the command prints.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Output {
    /// Print for a human, or json: then data is one line of JSON, and progress goes to standard error.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) output: OutputMode,
}

#[derive(Debug, Args)]
pub(crate) struct AddClient {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Id of the client: not taken yet.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Client {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Id of the client.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListClients {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SetRate {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Pool the rate is for.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// Id of the client.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Number of jobs, more than 0. Need not be whole.
    #[arg(value_name = "RATE", value_parser = rate, allow_negative_numbers = true)]
    pub(crate) rate: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Pool to show.
    #[arg(value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// Worker to show.
    #[arg(value_name = "WORKER")]
    pub(crate) worker: Option<String>,
    /// Print only the workers' names, or only the worker's state.
    #[arg(long)]
    pub(crate) terse: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Pool of the workers.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// Command and its arguments, best after a "--". Each argument that is just {} becomes the worker's name.
    #[arg(value_name = "COMMAND", required = true)]
    pub(crate) words: Vec<String>,
}

/// The workers to act on.
#[derive(Debug, Args)]
pub(crate) struct Workers {
    /// Pool of the workers.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// The one worker to act on.
    #[arg(value_name = "WORKER")]
    pub(crate) worker: Option<String>,
    /// Act on all workers of the pool.
    #[arg(long)]
    pub(crate) all: bool,
    /// Also if no such worker has ever connected, so that it is in that state when it does. Only for a single WORKER.
    #[arg(long)]
    pub(crate) auto_create: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    #[command(flatten)]
    pub(crate) workers: Workers,
    /// Wait until the jobs the workers are running have finished.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Unpause {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    #[command(flatten)]
    pub(crate) workers: Workers,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Pool of the workers.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// The one worker to update. Without it, all connected workers are, once the first has come back.
    #[arg(value_name = "WORKER")]
    pub(crate) worker: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Pool of the worker.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// Worker to forget.
    #[arg(value_name = "WORKER")]
    pub(crate) worker: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid value '{0}', expected a number more than 0")]
pub(crate) struct RateError(String);

fn rate(text: &str) -> Result<f64, RateError> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(RateError(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d16_rates_are_positive_numbers() {
        assert_eq!(rate("2"), Ok(2.0));
        assert_eq!(rate("0.4"), Ok(0.4));
        // Upstream sends these to the scheduler, which answers with an internal error.
        for wrong in ["0", "-1", "nan", "inf", "many", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
