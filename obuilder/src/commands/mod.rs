//! The subcommands, one file each.

mod build;
mod check;
mod dockerfile;
mod export;
mod healthcheck;
mod list;
mod remove;

use std::path::Path;

use ocluster_cli::Failure;
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::{Location, Store, StoreError, StoreOptions};
use tokio_util::sync::CancellationToken;

use crate::args::{Command, StoreArgs};
use crate::progress::shown;

/// Does what the command line asks for, until `cancel` fires.
pub(crate) async fn run(command: Command, cancel: &CancellationToken) -> Result<(), Failure> {
    match command {
        Command::Build(build) => build::run(*build, cancel).await,
        Command::Healthcheck(check) => healthcheck::run(*check, cancel).await,
        Command::Dockerfile(dockerfile) => dockerfile::run(&dockerfile),
        Command::Ls(ls) => list::run(&ls).await,
        Command::Export(export) => export::run(export, cancel).await,
        Command::Delete(delete) => remove::delete(&delete, cancel).await,
        Command::Clean(clean) => remove::clean(&clean, cancel).await,
        Command::Check(check) => check::run(&check).await,
    }
}

/// Opens the store that the command line names, which must be there: only a build makes one.
async fn open(args: &StoreArgs) -> Result<Store, Failure> {
    let location = existing(args)?;
    let opened = Store::open(&location, StoreOptions::default()).await;
    opened.map_err(|error| cannot_open(&location, &error))
}

/// Where the store is that the command line names.
fn existing(args: &StoreArgs) -> Result<Location, Failure> {
    let location = args.location()?;
    if location.root.is_dir() {
        return Ok(location);
    }
    let root = location.root.display();
    Err(Failure::failed(format!("there is no store in {root}")))
}

/// Waits until what was thrown away is removed, what was kept is on the disk, and another process can open the store.
async fn closed(closing: impl Future<Output = Result<(), StoreError>>) -> Result<(), Failure> {
    shown("closing the store", closing).await.map_err(failed)
}

fn cannot_open(location: &Location, error: &StoreError) -> Failure {
    Failure::failed(format!("cannot open the store {location}: {error}"))
}

/// Reads a spec from a file.
fn read_spec(file: &Path) -> Result<Spec, Failure> {
    let name = file.display();
    let text = std::fs::read(file)
        .map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    Spec::parse(&text).map_err(|error| {
        let said = error.to_string();
        // As compilers write it, so that editors find the place.
        Failure::failed(match error.position() {
            Some((line, column)) => {
                let place = format!("line {line}, column {column}: ");
                let said = said.strip_prefix(&place).unwrap_or(&said);
                format!("{name}:{line}:{column}: {said}")
            }
            None => format!("{name}: {said}"),
        })
    })
}

/// A failure that is an error's own sentence.
fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}
