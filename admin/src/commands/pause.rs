//! `pause` and `unpause`: whether workers are given jobs.

use std::io;

use futures::future::try_join_all;
use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::Vat;
use serde::Serialize;

use super::workers::candidates;
use super::{cluster, reports, say};
use crate::args::{Pause, Reason, Unpause, Workers};
use crate::cluster::{CallError, Kept, Pool};
use crate::who::who;

#[derive(Serialize)]
struct Changed<'a> {
    pool: &'a str,
    /// What was asked for.
    paused: bool,
    /// The workers for which it was set.
    workers: &'a [String],
    /// The workers for which it was so already.
    unchanged: &'a [String],
    /// Whether the workers' jobs were waited for.
    drained: bool,
}

/// What is to become of which workers.
struct Change<'a> {
    pool: Pool,
    workers: &'a Workers,
    active: bool,
    wait: bool,
    reason: &'a Reason,
    mode: OutputMode,
}

pub(super) async fn pause(args: &Pause, vat: &Vat) -> Result<ExitCode, Failure> {
    let pool = cluster(&args.cap, vat).await?.pool(&args.workers.pool);
    let (workers, wait, mode) = (&args.workers, args.wait, args.output.output);
    Change {
        pool,
        workers,
        active: false,
        wait,
        reason: &args.reason,
        mode,
    }
    .run()
    .await
}

pub(super) async fn unpause(args: &Unpause, vat: &Vat) -> Result<ExitCode, Failure> {
    let pool = cluster(&args.cap, vat).await?.pool(&args.workers.pool);
    Change {
        pool,
        workers: &args.workers,
        active: true,
        wait: false,
        reason: &args.reason,
        mode: args.output.output,
    }
    .run()
    .await
}

/// Pauses or unpauses workers, and says once if nobody will learn why.
pub(super) async fn set_active(
    pool: &Pool,
    workers: &[String],
    active: bool,
    auto_create: bool,
    reason: &Reason,
) -> Result<(), CallError> {
    let (by, why) = (who(), reason.text.as_deref().unwrap_or_default());
    let kept = try_join_all(
        workers
            .iter()
            .map(|worker| pool.pause(worker, active, auto_create, &by, why)),
    )
    .await?;
    if kept.contains(&Kept::No) && !why.is_empty() {
        output::complain("This scheduler does not keep reasons: nobody else will see yours.");
    }
    Ok(())
}

impl Change<'_> {
    async fn run(&self) -> Result<ExitCode, Failure> {
        match &self.workers.worker {
            Some(worker) => self.one(worker).await,
            None => self.several().await,
        }
    }

    async fn one(&self, worker: &String) -> Result<ExitCode, Failure> {
        let worker = std::slice::from_ref(worker);
        self.set(worker, self.workers.auto_create).await?;
        self.wait_for_jobs(worker).await?;
        self.done(worker, &[])
    }

    async fn several(&self) -> Result<ExitCode, Failure> {
        let workers = self.pool.workers().await?;
        if workers.is_empty() {
            say(self.mode, "No workers connected to pool (nothing to do).")?;
            return self.report(&[], &[]);
        }
        if !self.workers.all {
            let sentence = "Specify which worker you want to affect (or use --all).";
            return Err(Failure::failed(candidates(sentence, &workers)));
        }
        let (unchanged, changing): (Vec<_>, Vec<_>) = workers
            .into_iter()
            .partition(|worker| worker.active == self.active);
        let [unchanged, changing]: [Vec<String>; 2] = [unchanged, changing]
            .map(|workers| workers.into_iter().map(|worker| worker.name).collect());
        for name in &unchanged {
            say(self.mode, &format!("(worker {name:?} is already done)"))?;
        }
        if changing.is_empty() {
            say(self.mode, "Nothing to do.")?;
            return self.report(&[], &unchanged);
        }
        say(self.mode, &format!("Updating {}…", changing.join(", ")))?;
        // Known workers need no creating.
        self.set(&changing, false).await?;
        self.wait_for_jobs(&changing).await?;
        self.done(&changing, &unchanged)
    }

    async fn set(&self, workers: &[String], auto_create: bool) -> Result<(), CallError> {
        set_active(&self.pool, workers, self.active, auto_create, self.reason).await
    }

    async fn wait_for_jobs(&self, workers: &[String]) -> Result<(), Failure> {
        if !self.wait {
            return Ok(());
        }
        say(self.mode, "Waiting for jobs to finish…")?;
        try_join_all(
            workers
                .iter()
                .map(|name| self.pool.drain(name, reports(self.mode, name))),
        )
        .await?;
        Ok(())
    }

    fn done(&self, changed: &[String], unchanged: &[String]) -> Result<ExitCode, Failure> {
        say(self.mode, "Success.")?;
        self.report(changed, unchanged)
    }

    fn report(&self, workers: &[String], unchanged: &[String]) -> Result<ExitCode, Failure> {
        self.print_json(workers, unchanged)?;
        Ok(ExitCode::Success)
    }

    fn print_json(&self, workers: &[String], unchanged: &[String]) -> io::Result<()> {
        match self.mode {
            OutputMode::Human => Ok(()),
            OutputMode::Json => {
                let (pool, paused, drained) = (
                    self.workers.pool.as_str(),
                    !self.active,
                    self.wait && !workers.is_empty(),
                );
                output::json(Changed {
                    pool,
                    paused,
                    workers,
                    unchanged,
                    drained,
                })
            }
        }
    }
}
