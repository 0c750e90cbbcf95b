//! `obuilder build`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ocluster_cli::{Failure, output};
use ocluster_obuilder::Engine;
use ocluster_obuilder::build::{BuildContext, BuildError, BuilderOptions, Secrets};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{closed, failed, read_spec};
use crate::args::Build;
use crate::log::Terminal;

pub(super) async fn run(args: Build, cancel: &CancellationToken) -> Result<(), Failure> {
    let spec = read_spec(&args.file)?;
    let secrets = read_secrets(args.secret)?;
    if !args.directory.is_dir() {
        let directory = args.directory.display();
        return Err(Failure::failed(format!("{directory} is not a directory")));
    }
    let options = BuilderOptions {
        parallel_stages: args.parallel_stages.get(),
        limits: args.limits.limits(),
        ..BuilderOptions::default()
    };
    let config = args.building.engine(&args.store, options)?;
    let engine = Engine::open(config).await.map_err(failed)?;
    let log = Terminal::new();
    let context = BuildContext {
        source: args.directory,
        secrets,
        env: Vec::new(),
        log: &log,
        cancel,
    };
    let built = engine.builder().build(&spec, context).await;
    // The result itself is let go here, so that nothing of the build is left when the store is closed.
    let built = built.map(|built| built.id);
    let ended = closed(engine.close()).await;
    match built {
        Ok(id) => output::line(format!("Got: \"{id}\""))?,
        Err(BuildError::Cancelled) => return Err(Failure::failed("Cancelled at user's request")),
        Err(error) => return Err(Failure::failed(format!("Build step failed: {error}"))),
    }
    ended
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
