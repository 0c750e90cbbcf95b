//! The table of jobs.

use std::time::Duration;

use super::text::{duration, local_time};
use super::{JobInfo, printable};
use crate::Table;

/// A table with a line for each job, in their order; `with_clients` also says whose each is.
#[must_use]
pub fn job_table(jobs: &[JobInfo], with_clients: bool) -> Table {
    let mut headings = vec!["JOB", "STATE", "POOL"];
    if with_clients {
        headings.push("CLIENT");
    }
    headings.extend(["KIND", "WORKER", "SUBMITTED", "RAN", "CAUSE"]);
    let mut table = Table::new(headings);
    for job in jobs {
        let mut row = vec![printable(&job.id), state(job), printable(&job.pool)];
        if with_clients {
            row.push(printable(&job.client));
        }
        row.extend([
            printable(&job.kind),
            worker(job),
            job.queued_at.map_or_else(nothing, local_time),
            job.ran_ms()
                .map_or_else(nothing, |ms| duration(Duration::from_millis(ms))),
            job.cause
                .as_ref()
                .map_or_else(nothing, |cause| printable(&cause.code)),
        ]);
        table.row(row);
    }
    table
}

/// What stands in a cell about which there is nothing to say, so that the columns can be told apart by programs, too.
fn nothing() -> String {
    "-".to_owned()
}

fn state(job: &JobInfo) -> String {
    let name = printable(job.state.name());
    if job.attempt > 1 {
        format!("{name}#{}", job.attempt)
    } else {
        name
    }
}

fn worker(job: &JobInfo) -> String {
    match &job.worker {
        None => nothing(),
        Some(worker) if job.waits_for_worker => format!("{} (away)", printable(worker)),
        Some(worker) => printable(worker),
    }
}
