//! The subcommands, one file each.

mod build;
mod check;
mod dockerfile;
mod export;
mod healthcheck;
mod list;
mod remove;

use ocluster_cli::Failure;
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::{Store, StoreOptions};
use tokio_util::sync::CancellationToken;

use crate::args::{Command, StoreArgs};

/// Does what the command line asks for, until `cancel` fires.
pub(crate) async fn run(command: Command, cancel: &CancellationToken) -> Result<(), Failure> {
    match command {
        Command::Build(build) => build::run(*build, cancel).await,
        Command::Healthcheck(check) => healthcheck::run(*check, cancel).await,
        Command::Dockerfile(dockerfile) => dockerfile::run(&dockerfile),
        Command::Ls(ls) => list::run(&ls).await,
        Command::Export(export) => export::run(export, cancel).await,
        Command::Delete(delete) => remove::delete(&delete).await,
        Command::Clean(clean) => remove::clean(&clean, cancel).await,
        Command::Check(check) => check::run(&check).await,
    }
}

/// Opens the store that the command line names.
async fn open(args: &StoreArgs) -> Result<Store, Failure> {
    let location = args.location()?;
    let opened = Store::open(&location, StoreOptions::default()).await;
    opened.map_err(|error| Failure::failed(format!("cannot open the store {location}: {error}")))
}

/// Reads a spec from a file.
fn read_spec(file: &std::path::Path) -> Result<Spec, Failure> {
    let text = std::fs::read(file)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    Spec::parse(&text).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
}

/// A failure that is an error's own sentence.
fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}
