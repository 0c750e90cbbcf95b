//! `cancel`.

use ocluster_cli::jobs::JsonJob;
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, output};

use super::visit::{refused, visit};
use crate::cli::job_args::Cancel;

/// Cancels a job, and says so when it is certain.
pub(crate) async fn cancel(args: &Cancel, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    visit(&args.cap, interrupt, async |access| {
        let job = access.client().find(&args.job).await.map_err(refused)?;
        job.stop(&args.reason).await.map_err(refused)?;
        match args.output.mode {
            OutputMode::Human => output::line(format!("Job {} was cancelled.", job.id()))?,
            OutputMode::Json => {
                let info = job.info().await.map_err(refused)?;
                output::json(JsonJob::from(&info))?;
            }
        }
        Ok(ExitCode::Success)
    })
    .await
}
