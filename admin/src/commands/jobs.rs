//! `jobs`, `status`, `cancel`, `requeue`, `explain`: jobs of all clients.

use ocluster_cli::jobs::{
    JobInfo, JobPage, JsonExplanation, JsonJob, JsonJobList, job_table, status_text,
};
use ocluster_cli::{CapArgs, ExitCode, Failure, OutputMode, output};
use ocluster_vat::{RpcError, Vat};

use super::cluster;
use crate::args::{AboutJob, ChangeJob, Jobs, Reason};
use crate::cluster::{CallError, Cluster, Job, JobsQuery};
use crate::who::who;

/// As many jobs as a scheduler tells of in one answer.
const PAGE: u32 = 1000;

/// A call about jobs that failed.
pub(super) struct JobCallFailed(pub(super) CallError);

impl From<JobCallFailed> for Failure {
    fn from(JobCallFailed(CallError { error, .. }): JobCallFailed) -> Self {
        match error {
            RpcError::Unimplemented(_) => Self::failed(
                "This scheduler does not know jobs by their ids, or this capability is not an admin's.",
            ),
            // The method's name is no news to anybody here: these are not the calls of OCluster's own tool.
            error => Self::failed(error.to_string()),
        }
    }
}

/// The job that the command line names.
pub(super) async fn find(cap: &CapArgs, id: &str, vat: &Vat) -> Result<Job, Failure> {
    let cluster = cluster(cap, vat).await?;
    Ok(cluster.find_job(id).await.map_err(JobCallFailed)?)
}

pub(super) async fn list(args: &Jobs, vat: &Vat) -> Result<ExitCode, Failure> {
    let cluster = cluster(&args.cap, vat).await?;
    let page = newest(&cluster, args).await.map_err(JobCallFailed)?;
    match args.output.output {
        OutputMode::Json => output::json(JsonJobList::from(&page))?,
        OutputMode::Human if page.jobs.is_empty() => output::complain("No jobs."),
        OutputMode::Human => {
            output::line(job_table(&page.jobs, true).to_string().trim_end())?;
            if page.more.is_some() {
                output::complain("There are more: see --limit and --all.");
            }
        }
    }
    Ok(ExitCode::Success)
}

/// As many jobs as are wanted, in one page.
async fn newest(cluster: &Cluster, args: &Jobs) -> Result<JobPage, CallError> {
    let wanted = if args.all {
        usize::MAX
    } else {
        usize::try_from(args.limit).unwrap_or(usize::MAX)
    };
    let mut all = JobPage {
        jobs: Vec::new(),
        more: None,
    };
    loop {
        let missing = wanted.saturating_sub(all.jobs.len());
        let page = cluster
            .jobs(&JobsQuery {
                before: all.more.take(),
                limit: u32::try_from(missing).unwrap_or(PAGE).min(PAGE),
                states: args.states.clone(),
                pool: args.pool.clone(),
                client: args.client.clone(),
            })
            .await?;
        all.jobs.extend(page.jobs);
        all.more = page.more;
        if all.more.is_none() || all.jobs.len() >= wanted {
            return Ok(all);
        }
    }
}

pub(super) async fn status(args: &AboutJob, vat: &Vat) -> Result<ExitCode, Failure> {
    let job = find(&args.cap, &args.id, vat).await?;
    let info = job.info().await.map_err(JobCallFailed)?;
    match args.output.output {
        OutputMode::Human => output::line(status_text(&info).trim_end())?,
        OutputMode::Json => output::json(JsonJob::from(&info))?,
    }
    Ok(ExitCode::Success)
}

pub(super) async fn cancel(args: &ChangeJob, vat: &Vat) -> Result<ExitCode, Failure> {
    let job = find(&args.job.cap, &args.job.id, vat).await?;
    job.cancel(&signed(&args.reason))
        .await
        .map_err(JobCallFailed)?;
    let info = job.info().await.map_err(JobCallFailed)?;
    changed(args, &info, "was cancelled")
}

pub(super) async fn requeue(args: &ChangeJob, vat: &Vat) -> Result<ExitCode, Failure> {
    let cluster = cluster(&args.job.cap, vat).await?;
    // The scheduler takes a whole id here.
    let job = cluster
        .find_job(&args.job.id)
        .await
        .map_err(JobCallFailed)?;
    let info = cluster
        .requeue(&job.id, &signed(&args.reason))
        .await
        .map_err(JobCallFailed)?;
    changed(args, &info, "is queued again")
}

fn changed(args: &ChangeJob, info: &JobInfo, what: &str) -> Result<ExitCode, Failure> {
    match args.job.output.output {
        OutputMode::Human => output::line(format!("Job {} {what}.", info.id))?,
        OutputMode::Json => output::json(JsonJob::from(info))?,
    }
    Ok(ExitCode::Success)
}

/// The reason with the name of who gives it, because the call has no place for that.
fn signed(reason: &Reason) -> String {
    match reason.text.as_deref() {
        None | Some("") => who(),
        Some(reason) => format!("{}: {reason}", who()),
    }
}

pub(super) async fn explain(args: &AboutJob, vat: &Vat) -> Result<ExitCode, Failure> {
    let job = find(&args.cap, &args.id, vat).await?;
    let explanation = job.explain().await.map_err(JobCallFailed)?;
    match args.output.output {
        OutputMode::Human => output::line(explanation.to_string().trim_end())?,
        OutputMode::Json => output::json(JsonExplanation::from(&explanation))?,
    }
    Ok(ExitCode::Success)
}
