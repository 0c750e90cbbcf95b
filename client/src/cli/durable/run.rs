//! From the submission of a durable job to the end of the program.

use std::pin::pin;

use ocluster_api::JobSpec;
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, output};
use rand::Rng as _;
use serde::Serialize;

use super::accept::accept;
use super::asking::Answer;
use super::follow::follow;
use super::interrupted::{Interruption, Named};
use crate::DurableSpec;
use crate::cli::access::Access;
use crate::cli::args::{JobArgs, OnInterrupt};
use crate::cli::kept_job::KeptJob;

#[derive(Serialize)]
struct Detached<'a> {
    id: &'a str,
    /// Whether the job had been submitted before, under the same key.
    known: bool,
}

/// Submits the job and follows it to its end, or until the user wants something else.
pub(crate) async fn run(
    args: &JobArgs,
    spec: JobSpec,
    access: &Access<'_>,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    let cap = args.cap.as_example();
    let mut interruption = Interruption::new(args.lifetime.on_interrupt, interrupt);
    let spec = DurableSpec {
        pool: args.pool.clone(),
        job: spec,
        urgent: args.urgent,
        key: args.lifetime.key.clone().unwrap_or_else(random_key),
        limits: args.lifetime.limits(),
    };
    let mut accepted = pin!(accept(access, &spec, args));
    let job = tokio::select! {
        accepted = &mut accepted => accepted?,
        signal = interruption.next() => {
            return interruption.before_acceptance(signal, accepted, access, &cap).await;
        }
    };
    let known = job.known();
    let job = KeptJob::new(access, job);
    let id = job.id();
    if args.lifetime.detach {
        match args.output {
            OutputMode::Human => output::line(&id)?,
            OutputMode::Json => output::json(Detached { id: &id, known })?,
        }
        return Ok(ExitCode::Success);
    }
    let named = Named { id: &id, cap: &cap };
    output::complain(named.introduced(known && args.lifetime.key.is_some()));
    let mut followed = pin!(follow(&job, &named, args.output));
    loop {
        let signal = tokio::select! {
            ended = &mut followed => return ended,
            signal = interruption.next() => signal,
        };
        match interruption.meant(signal).await {
            Answer::Resume => {}
            Answer::Cancel => return Ok(interruption.cancel(signal, &job, &named).await),
            Answer::Leave => {
                output::complain(named.goes_on());
                return Ok(signal.exit_code());
            }
        }
    }
}

/// A key that nobody else has, so that a submission whose answer was lost can be repeated.
fn random_key() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// The default for programs that nobody looks at is that of OCluster's own client.
pub(super) fn default_on_interrupt(terminal: bool) -> OnInterrupt {
    if terminal {
        OnInterrupt::Ask
    } else {
        OnInterrupt::Cancel
    }
}
