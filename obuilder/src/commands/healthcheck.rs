//! `obuilder healthcheck`.

use ocluster_cli::{Failure, output};
use ocluster_obuilder::Engine;
use ocluster_obuilder::build::BuilderOptions;
use tokio_util::sync::CancellationToken;

use super::{closed, failed};
use crate::args::Healthcheck;
use crate::progress::shown;

pub(super) async fn run(args: Healthcheck, cancel: &CancellationToken) -> Result<(), Failure> {
    let config = args
        .building
        .engine(&args.store, BuilderOptions::default())?;
    let engine = Engine::open(config).await.map_err(failed)?;
    let checked = shown("checking", engine.healthcheck(&args.image, cancel)).await;
    let ended = closed(engine.close()).await;
    match checked {
        Ok(()) => output::line("Healthcheck passed")?,
        Err(reason) => return Err(Failure::failed(format!("Healthcheck failed: {reason}"))),
    }
    ended
}
