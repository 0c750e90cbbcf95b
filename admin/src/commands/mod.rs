//! What each subcommand does and prints.
//!
//! Scripts parse these texts and exit codes; they are those of OCluster's own tool. Data and results go to standard output,
//! complaints to standard error.

mod clients;
mod descriptions;
mod drain;
mod exec;
mod forget;
mod jobs;
mod log;
mod pause;
mod show;
mod update;
mod workers;

use ocluster_cli::{CapArgs, ExitCode, Failure, OutputMode, connect, hang_up, output};
use ocluster_vat::{DialOptions, RpcError, Stats, Vat};

use crate::args::Command;
use crate::cluster::{CallError, Cluster};

/// Runs one subcommand.
pub(crate) async fn run(command: &Command) -> Result<ExitCode, Failure> {
    let vat = Vat::client_only(Stats::new());
    let result = dispatch(command, &vat).await;
    hang_up(&vat).await;
    result
}

async fn dispatch(command: &Command, vat: &Vat) -> Result<ExitCode, Failure> {
    match command {
        Command::AddClient(args) => clients::add(args, vat).await,
        Command::RemoveClient(args) => clients::remove(args, vat).await,
        Command::ListClients(args) => clients::list(args, vat).await,
        Command::SetRate(args) => clients::set_rate(args, vat).await,
        Command::Show(args) => show::show(args, vat).await,
        Command::Exec(args) => exec::exec(args, vat).await,
        Command::Pause(args) => pause::pause(args, vat).await,
        Command::Unpause(args) => pause::unpause(args, vat).await,
        Command::Drain(args) => drain::drain(args, vat).await,
        Command::Update(args) => update::update(args, vat).await,
        Command::Forget(args) => forget::forget(args, vat).await,
        Command::Jobs(args) => jobs::list(args, vat).await,
        Command::Status(args) => jobs::status(args, vat).await,
        Command::Cancel(args) => jobs::cancel(args, vat).await,
        Command::Requeue(args) => jobs::requeue(args, vat).await,
        Command::Explain(args) => jobs::explain(args, vat).await,
        Command::Log(args) => log::log(args, vat).await,
    }
}

/// Connects to the scheduler that the command line names.
async fn cluster(cap: &CapArgs, vat: &Vat) -> Result<Cluster, Failure> {
    let cap = cap.load()?;
    let connection = connect(vat, &cap, &DialOptions::default()).await?;
    Ok(Cluster::over(&connection, &cap))
}

/// What prints the scheduler's reports about a worker.
fn reports(mode: OutputMode, worker: &str) -> impl Fn(&str) + 'static {
    let worker = worker.to_owned();
    move |status| {
        // If nobody reads it any more, the command's last line will find out.
        drop(say(mode, &format!("{worker}: {status}")));
    }
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
        let hint = match error.error {
            RpcError::Unimplemented(_) => ". Is this capability an admin's?",
            _ => "",
        };
        Self::failed(format!("{error}{hint}"))
    }
}
