//! The command line of `ocluster-admin`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ocluster_cli::{CapArgs, LogArgs, OutputMode, parse_duration};
use thiserror::Error;

mod jobs;

pub(crate) use jobs::{AboutJob, ChangeJob, JobLog, Jobs};

/// Manage a cluster: its clients, pools, workers and jobs.
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
    /// Pause workers and wait until they have finished their jobs, or until a deadline.
    Drain(Drain),
    /// Have workers finish their jobs and restart as a newer version: one worker, or the whole pool, one of them first.
    Update(Update),
    /// Forget a worker that is not connected.
    Forget(Forget),
    /// Print the jobs of all clients, newest first.
    Jobs(Jobs),
    /// Print what is known of a job.
    Status(AboutJob),
    /// Cancel a job, whether it is queued or runs.
    Cancel(ChangeJob),
    /// Take a running job from its worker and queue it again, at its old place. Only durable jobs can run twice.
    Requeue(ChangeJob),
    /// Say why a job is where it is: what it waits for, or how it ended.
    Explain(AboutJob),
    /// Print a job's log.
    Log(JobLog),
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
    /// Print a table of the pool's workers: what they do, who paused them and why, and what machines they are.
    #[arg(long, conflicts_with_all = ["terse", "worker"])]
    pub(crate) workers: bool,
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

/// Why something is done, for others to see.
#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Why, in one line. It is shown to others, with your name and the time.
    #[arg(long = "reason", value_name = "TEXT")]
    pub(crate) text: Option<String>,
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
    pub(crate) reason: Reason,
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
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What becomes of jobs that still run when the time to drain is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Afterwards {
    /// They go on, and are named; the exit code is 1
    Leave,
    /// Durable ones are queued again at their old places, to run elsewhere; the others are cancelled
    Evict,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Pool of the workers.
    #[arg(value_name = "POOL")]
    pub(crate) pool: String,
    /// Workers to drain.
    #[arg(value_name = "WORKER")]
    pub(crate) workers: Vec<String>,
    /// Drain all workers of the pool.
    #[arg(long, conflicts_with = "workers")]
    pub(crate) all: bool,
    /// How long their jobs may take to finish, such as 90s or 2h. Without it there is no limit.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) deadline: Option<Duration>,
    /// What becomes of the jobs that still run then.
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value = "leave",
        requires = "deadline"
    )]
    pub(crate) then: Afterwards,
    #[command(flatten)]
    pub(crate) reason: Reason,
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
