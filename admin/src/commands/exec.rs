//! `exec`: a command on this machine for each worker, such as an ssh to it.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use ocluster_cli::{ExitCode, Failure, output};
use ocluster_vat::Vat;
use thiserror::Error;
use tokio::process::Command;

use super::cluster;
use crate::args::Exec;

/// The argument that stands for a worker's name.
const PLACEHOLDER: &str = "{}";

#[derive(Debug, Error)]
enum ExecError {
    #[error("cannot run {program:?}: {source}")]
    Start { program: String, source: io::Error },
    #[error("Sub-process failed with {}", ended(*.0))]
    Failed(ExitStatus),
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Runs all commands to their ends, whatever becomes of the others.
pub(super) async fn exec(args: &Exec, vat: &Vat) -> Result<ExitCode, Failure> {
    let workers = cluster(&args.cap, vat)
        .await?
        .pool(&args.pool)
        .workers()
        .await?;
    let results =
        futures::future::join_all(workers.iter().map(|worker| run(&args.words, &worker.name)))
            .await;
    let mut code = ExitCode::Success;
    for error in results.into_iter().filter_map(Result::err) {
        output::complain(error.to_string());
        code = ExitCode::Failed;
    }
    Ok(code)
}

async fn run(words: &[String], worker: &str) -> Result<(), ExecError> {
    let mut words = words
        .iter()
        .map(|word| if word == PLACEHOLDER { worker } else { word });
    let program = words.next().unwrap_or_default();
    let started = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = started.await.map_err(|source| ExecError::Start {
        program: program.to_owned(),
        source,
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(ExecError::Failed(status))
    }
}
