//! `add-client`, `remove-client`, `list-clients`, `set-rate`.

use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::Vat;
use serde::Serialize;

use super::cluster;
use crate::args::{AddClient, Client, ListClients, SetRate};

#[derive(Serialize)]
struct Added<'a> {
    client: &'a str,
    /// The capability it submits jobs with: a secret.
    uri: &'a str,
}

#[derive(Serialize)]
struct Clients<'a> {
    clients: &'a [String],
}

/// Prints the new client's URI, and nothing else: it is redirected into a file.
pub(super) async fn add(args: &AddClient, vat: &Vat) -> Result<ExitCode, Failure> {
    let cluster = cluster(&args.cap, vat).await?;
    // Without the method's name, as ever.
    let uri = cluster
        .add_client(&args.id)
        .await
        .map_err(|error| Failure::failed(error.error.to_string()))?;
    match args.output.output {
        OutputMode::Human => output::line(&uri)?,
        OutputMode::Json => output::json(Added {
            client: &args.id,
            uri: &uri,
        })?,
    }
    Ok(ExitCode::Success)
}

pub(super) async fn remove(args: &Client, vat: &Vat) -> Result<ExitCode, Failure> {
    cluster(&args.cap, vat)
        .await?
        .remove_client(&args.id)
        .await?;
    Ok(ExitCode::Success)
}

pub(super) async fn list(args: &ListClients, vat: &Vat) -> Result<ExitCode, Failure> {
    let clients = cluster(&args.cap, vat).await?.clients().await?;
    match args.output.output {
        OutputMode::Json => output::json(Clients { clients: &clients })?,
        OutputMode::Human if clients.is_empty() => output::complain("No clients."),
        OutputMode::Human => output::line(clients.join("\n"))?,
    }
    Ok(ExitCode::Success)
}

pub(super) async fn set_rate(args: &SetRate, vat: &Vat) -> Result<ExitCode, Failure> {
    cluster(&args.cap, vat)
        .await?
        .pool(&args.pool)
        .set_rate(&args.id, args.rate)
        .await?;
    Ok(ExitCode::Success)
}
