//! `forget`: removes a worker that will not come back.

use ocluster_cli::{ExitCode, Failure, output};
use ocluster_vat::Vat;

use super::cluster;
use super::workers::candidates;
use crate::args::Forget;
use crate::cluster::{CallError, Pool, Worker};

pub(super) async fn forget(args: &Forget, vat: &Vat) -> Result<ExitCode, Failure> {
    let pool = cluster(&args.cap, vat).await?.pool(&args.pool);
    let Some(worker) = &args.worker else {
        return Err(which(&pool).await?);
    };
    match pool.forget(worker).await {
        Ok(()) => Ok(ExitCode::Success),
        // On standard output, where scripts have learnt to look for it.
        Err(CallError { error, .. }) => {
            output::line(error.to_string())?;
            Ok(ExitCode::Failed)
        }
    }
}

/// What to say to someone who named no worker.
async fn which(pool: &Pool) -> Result<Failure, Failure> {
    let workers = pool.workers().await?;
    if workers.is_empty() {
        return Ok(Failure::failed("No workers in pool!"));
    }
    let sentence = "Specify which worker you want to forget.";
    let away: Vec<&Worker> = workers.iter().filter(|worker| !worker.connected).collect();
    let text = if away.is_empty() {
        candidates(sentence, &workers)
    } else {
        candidates(sentence, away)
    };
    Ok(Failure::failed(text))
}
