//! The arguments of the chores.

use std::path::PathBuf;

use ocluster_cli::OutputMode;

/// What can be done to a store.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum StoreChore {
    /// Read everything in the store and say what is damaged. Repairs nothing.
    ///
    /// Exit code 0 if all is well, 1 if something is damaged or the store cannot be opened.
    Check(CheckArgs),
    /// Write everything in the store to one file: a backup. Descriptions of jobs stay sealed under the secret key.
    Export(ExportArgs),
    /// Make a store from such a file, in a state directory that has none. All of it is brought in, or nothing.
    Import(ImportArgs),
    /// Write the store anew, without the room that it no longer needs.
    ///
    /// The old one stays until the new one is whole, so there must be room for both.
    Compact(CompactArgs),
}

/// Which store to check.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// State directory of the scheduler.
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

/// What to export, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// The file to write, JSON lines compressed with zstd. There must be none yet.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    /// State directory of the scheduler.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
}

/// What to import, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// The file: what "store export" has written, or the scheduler itself in export/ of its state directory.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// State directory of the scheduler. Created if absent.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
}

/// Which store to compact.
#[derive(Clone, Debug, clap::Args)]
pub struct CompactArgs {
    /// State directory of the scheduler.
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
}
