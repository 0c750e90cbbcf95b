//! The arguments of the chores.

use std::path::PathBuf;

use ocluster_cli::OutputMode;

/// What to bring over, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// The database: scheduler.db in the state directory of OCluster's scheduler, with what lies beside it.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// State directory of this scheduler. Created if absent. May be the one of OCluster's scheduler.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Drop the clients, workers, hints and rates that this scheduler remembers. Without it they are a reason to refuse.
    #[arg(long)]
    pub replace: bool,

    /// Check everything and print what there is, but bring nothing over.
    #[arg(long)]
    pub dry_run: bool,

    /// Print for a human, or json: one line of JSON.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: OutputMode,
}

/// What to write, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// The database to write. There must be none yet.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// State directory of this scheduler.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Print for a human, or json: one line of JSON.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: OutputMode,
}
