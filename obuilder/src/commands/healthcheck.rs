//! `obuilder healthcheck`.

use ocluster_cli::{Failure, output};
use ocluster_obuilder::Engine;
use tokio_util::sync::CancellationToken;

use super::failed;
use crate::args::Healthcheck;

pub(super) async fn run(args: Healthcheck, cancel: &CancellationToken) -> Result<(), Failure> {
    let config = args.building.engine(&args.store)?;
    let engine = Engine::open(config).await.map_err(failed)?;
    match engine.healthcheck(&args.image, cancel).await {
        Ok(()) => Ok(output::line("Healthcheck passed")?),
        Err(reason) => Err(Failure::failed(format!("Healthcheck failed: {reason}"))),
    }
}
