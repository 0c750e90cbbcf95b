//! `jobs`: the list of a client's jobs.

use ocluster_cli::jobs::{JobPage, JsonJobList, job_table};
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, PassingLine, output};
use ocluster_vat::RpcError;

use super::visit::{refused, visit};
use crate::JobQuery;
use crate::cli::access::Access;
use crate::cli::job_args::Jobs;

/// The most that a scheduler gives at once.
const PAGE: u32 = 1000;

/// Lists jobs.
pub(crate) async fn list(args: &Jobs, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    visit(&args.cap, interrupt, async |access| {
        let page = collect(args, access).await.map_err(refused)?;
        match args.output.mode {
            OutputMode::Json => output::json(JsonJobList::from(&page))?,
            OutputMode::Human if page.jobs.is_empty() => output::complain("No jobs."),
            OutputMode::Human => {
                output::line(job_table(&page.jobs, false).to_string().trim_end())?;
                if page.more.is_some() {
                    output::complain("There are more: see --limit and --all.");
                }
            }
        }
        Ok(ExitCode::Success)
    })
    .await
}

/// As many pages as it takes.
async fn collect(args: &Jobs, access: &Access<'_>) -> Result<JobPage, RpcError> {
    let mut line = PassingLine::new();
    let client = access.client();
    let mut all = JobPage {
        jobs: Vec::new(),
        more: None,
    };
    loop {
        let wanted = match (args.all, u32::try_from(all.jobs.len())) {
            (true, _) => PAGE,
            (false, listed) => args
                .limit
                .saturating_sub(listed.unwrap_or(u32::MAX))
                .min(PAGE),
        };
        if wanted == 0 {
            return Ok(all);
        }
        let query = JobQuery {
            before: all.more.take(),
            limit: wanted,
            states: args.states.clone(),
            pool: args.pool.clone(),
        };
        let page = client.list(&query).await?;
        let nothing_new = page.more == query.before;
        all.jobs.extend(page.jobs);
        all.more = page.more;
        // A list that leads back to where it began would never end.
        if all.more.is_none() || nothing_new {
            return Ok(all);
        }
        line.show(&format!("{} jobs", all.jobs.len()));
    }
}
