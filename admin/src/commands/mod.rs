//! What each subcommand does and prints.
//!
//! Scripts parse these texts and exit codes; they are those of OCluster's own tool. Data and results go to standard output,
//! complaints to standard error.

mod clients;
mod exec;
mod forget;
mod pause;
mod show;
mod workers;

use ocluster_cli::{CapArgs, ExitCode, Failure, OutputMode, connect, output};
use ocluster_vat::{DialOptions, Stats, Vat};

use crate::args::Command;
use crate::cluster::{CallError, Cluster};

/// Runs one subcommand.
pub(crate) async fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::AddClient(args) => clients::add(args).await,
        Command::RemoveClient(args) => clients::remove(args).await,
        Command::ListClients(args) => clients::list(args).await,
        Command::SetRate(args) => clients::set_rate(args).await,
        Command::Show(args) => show::show(args).await,
        Command::Exec(args) => exec::exec(args).await,
        Command::Pause(args) => pause::pause(args).await,
        Command::Unpause(args) => pause::unpause(args).await,
        Command::Forget(args) => forget::forget(args).await,
    }
}

/// Connects to the scheduler that the command line names.
async fn cluster(cap: &CapArgs) -> Result<Cluster, Failure> {
    let cap = cap.load()?;
    let vat = Vat::client_only(Stats::new());
    let connection = connect(&vat, &cap, &DialOptions::default()).await?;
    Ok(Cluster::over(&connection, &cap))
}

/// Prints a line about what is happening: where people read it, or out of the way of data.
fn say(mode: OutputMode, line: &str) -> std::io::Result<()> {
    match mode {
        OutputMode::Human => output::line(line),
        OutputMode::Json => {
            output::complain(line);
            Ok(())
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::failed(error.to_string())
    }
}
