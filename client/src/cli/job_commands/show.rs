//! `status` and `explain`: what is known of a job, and why it stands where it stands.

use ocluster_cli::jobs::{JsonExplanation, JsonJob, status_text};
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, output};

use super::visit::{refused, visit};
use crate::cli::job_args::OneJob;

/// `status`.
pub(crate) async fn status(args: &OneJob, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    visit(&args.cap, interrupt, async |access| {
        let job = access.client().find(&args.job).await.map_err(refused)?;
        let info = job.info().await.map_err(refused)?;
        match args.output.mode {
            OutputMode::Human => output::line(status_text(&info).trim_end())?,
            OutputMode::Json => output::json(JsonJob::from(&info))?,
        }
        Ok(ExitCode::Success)
    })
    .await
}

/// `explain`.
pub(crate) async fn explain(args: &OneJob, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    visit(&args.cap, interrupt, async |access| {
        let job = access.client().find(&args.job).await.map_err(refused)?;
        let explanation = job.explain().await.map_err(refused)?;
        match args.output.mode {
            OutputMode::Human => output::line(explanation.to_string().trim_end())?,
            OutputMode::Json => output::json(JsonExplanation::from(&explanation))?,
        }
        Ok(ExitCode::Success)
    })
    .await
}
