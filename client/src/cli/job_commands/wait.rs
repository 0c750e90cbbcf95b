//! `wait`: until jobs have ended, through lost connections.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ocluster_cli::jobs::{JobInfo, JsonJob, printable};
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, PassingLine, output};
use ocluster_vat::RpcError;

use super::visit::{refused, visit};
use crate::DurableJob;
use crate::cli::access::Access;
use crate::cli::job_args::Wait;

/// Waits for all jobs, and tells of each as it ends.
pub(crate) async fn wait(args: &Wait, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    visit(&args.cap, interrupt, async |access| {
        let mut pending: Vec<DurableJob> = Vec::new();
        for id in &args.jobs {
            let job = access.client().find(id).await.map_err(refused)?;
            if pending.iter().all(|other| other.id() != job.id()) {
                pending.push(job);
            }
        }
        let mut all_passed = true;
        while !pending.is_empty() {
            let told = |info: &JobInfo| {
                all_passed &= info.has_passed();
                tell(info, args.output.mode)
            };
            if let Some(lost) = until_lost(&mut pending, told).await? {
                find_again(access, &mut pending, &lost).await?;
            }
        }
        Ok(if all_passed {
            ExitCode::Success
        } else {
            ExitCode::Failed
        })
    })
    .await
}

/// Waits for the jobs, and takes those that have ended out, until none is left or the connection is lost.
async fn until_lost(
    pending: &mut Vec<DurableJob>,
    mut told: impl FnMut(&JobInfo) -> Result<(), Failure>,
) -> Result<Option<RpcError>, Failure> {
    let mut line = PassingLine::new();
    let waits = pending.clone();
    let mut waits: FuturesUnordered<_> = waits
        .iter()
        .map(async |job| (job.id(), job.ended().await))
        .collect();
    loop {
        line.show(&waiting_for(pending));
        let (id, ended) = match waits.next().await {
            None => return Ok(None),
            Some((_, Err(error))) if error.is_disconnected() => return Ok(Some(error)),
            Some((_, Err(error))) => return Err(refused(error)),
            Some((id, Ok(info))) => (id, info),
        };
        line.clear();
        told(&ended)?;
        pending.retain(|job| job.id() != id);
    }
}

fn waiting_for(pending: &[DurableJob]) -> String {
    match pending {
        [only] => format!("waiting for job {}", only.id()),
        several => format!("waiting for {} jobs", several.len()),
    }
}

/// Connects again, and finds the jobs there.
async fn find_again(
    access: &Access<'_>,
    pending: &mut [DurableJob],
    lost: &RpcError,
) -> Result<(), Failure> {
    access.reconnect(lost).await;
    'connected: loop {
        for job in pending.iter_mut() {
            match access.client().find(job.id()).await {
                Ok(found) => *job = found,
                Err(error) if error.is_disconnected() => {
                    access.connect_again().await;
                    continue 'connected;
                }
                Err(error) => return Err(refused(error)),
            }
        }
        output::complain("Reconnected.");
        return Ok(());
    }
}

fn tell(job: &JobInfo, mode: OutputMode) -> Result<(), Failure> {
    match mode {
        OutputMode::Json => output::json(JsonJob::from(job))?,
        OutputMode::Human => {
            let reason = job
                .reason()
                .map_or_else(String::new, |reason| format!(": {}", printable(reason)));
            output::line(format!(
                "{} {}{reason}",
                printable(&job.id),
                printable(job.state.name())
            ))?;
        }
    }
    Ok(())
}
