//! `obuilder build`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ocluster_cli::{Failure, output};
use ocluster_obuilder::Engine;
use ocluster_obuilder::build::{BuildContext, BuildError, Secrets};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{failed, read_spec};
use crate::args::Build;
use crate::log::Terminal;

pub(super) async fn run(args: Build, cancel: &CancellationToken) -> Result<(), Failure> {
    let spec = read_spec(&args.file)?;
    let secrets = read_secrets(args.secret)?;
    if !args.directory.is_dir() {
        let directory = args.directory.display();
        return Err(Failure::failed(format!("{directory} is not a directory")));
    }
    let mut config = args.building.engine(&args.store)?;
    config.build.parallel_stages = args.parallel_stages.get();
    let engine = Engine::open(config).await.map_err(failed)?;
    let log = Terminal::new();
    let context = BuildContext {
        source: args.directory,
        secrets,
        env: Vec::new(),
        log: &log,
        cancel,
    };
    match engine.builder().build(&spec, context).await {
        Ok(built) => Ok(output::line(format!("Got: \"{}\"", built.id))?),
        Err(BuildError::Cancelled) => Err(Failure::failed("Cancelled at user's request")),
        Err(error) => Err(Failure::failed(format!("Build step failed: {error}"))),
    }
}

fn read_secrets(files: Vec<(String, PathBuf)>) -> Result<Secrets, Failure> {
    let mut secrets = BTreeMap::new();
    for (id, file) in files {
        let value = std::fs::read(&file).map_err(|error| {
            let file = file.display();
            Failure::failed(format!(
                "cannot read the secret \"{id}\" from {file}: {error}"
            ))
        })?;
        secrets.insert(id, Zeroizing::new(value));
    }
    Ok(Secrets(secrets))
}
