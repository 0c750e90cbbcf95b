//! Submitting a job: whether it is to be a durable one, and what the options mean for that.

use ocluster_api::JobSpec;
use ocluster_cli::{ExitCode, Failure, Interrupt, OutputMode, hang_up, output};
use ocluster_vat::{RpcError, Stats, SturdyRef, Vat};

use super::access::Access;
use super::args::{JobArgs, LifetimeArgs, NAME, OnInterrupt};
use super::result::log_failure;
use super::{attached, durable};
use crate::{Client, Features};

/// How often in a row a connection may be lost before the scheduler has answered anything at all.
const MAX_UNANSWERED: u32 = 3;

/// Submits the job and follows it to its end, or until `interrupt`.
pub(crate) async fn run(
    args: &JobArgs,
    spec: JobSpec,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    check(&args.lifetime)?;
    let cap = args.cap.load()?;
    let vat = Vat::client_only(Stats::new());
    let result = submit(args, spec, &vat, &cap, interrupt).await;
    hang_up(&vat).await;
    result
}

/// What clap cannot see: that one value of an option does not go with another option.
fn check(lifetime: &LifetimeArgs) -> Result<(), Failure> {
    if lifetime.attached && lifetime.on_interrupt == Some(OnInterrupt::Detach) {
        return Err(Failure::usage(
            NAME,
            "Can't use --attached and --on-interrupt=detach together!",
        ));
    }
    Ok(())
}

async fn submit(
    args: &JobArgs,
    spec: JobSpec,
    vat: &Vat,
    cap: &SturdyRef,
    interrupt: &Interrupt,
) -> Result<ExitCode, Failure> {
    let access = tokio::select! {
        access = Access::connect(vat, cap) => access?,
        signal = interrupt.wait() => return Ok(signal.exit_code()),
    };
    if args.output == OutputMode::Human && !args.lifetime.detach {
        output::line("Tailing log:")?;
    }
    if args.lifetime.attached {
        return attached::run(args, &spec, vat, cap, access.client(), interrupt).await;
    }
    let features = tokio::select! {
        features = features(&access) => features,
        signal = interrupt.wait() => return Ok(signal.exit_code()),
    };
    let features = match features {
        Ok(features) => features,
        Err(error) => return Err(log_failure(None, error, args.output)?),
    };
    if let Some(missing) = missing(&args.lifetime, &features) {
        return Err(Failure::failed(missing));
    }
    if features.durable_jobs() {
        return durable::run(args, spec, &access, interrupt).await;
    }
    output::complain(
        "This scheduler keeps no jobs for clients that go away: the job lives as long as this program.",
    );
    let client: Client = access.client();
    attached::run(args, &spec, vat, cap, client, interrupt).await
}

/// Asks what the scheduler offers, over as many connections as it takes to be answered, unless it seems to be no scheduler.
async fn features(access: &Access<'_>) -> Result<Features, RpcError> {
    let mut unanswered = 0;
    loop {
        match access.client().features().await {
            Err(error)
                if error.is_disconnected() && access.is_proven() && unanswered < MAX_UNANSWERED =>
            {
                unanswered += 1;
                access.reconnect(&error).await;
            }
            answered => return answered,
        }
    }
}

/// What was asked for and the scheduler does not offer. What cannot be had is not left out without a word.
fn missing(lifetime: &LifetimeArgs, features: &Features) -> Option<String> {
    let durable = [
        (lifetime.detach, "--detach"),
        (lifetime.key.is_some(), "--key"),
        (
            lifetime.on_interrupt == Some(OnInterrupt::Detach),
            "--on-interrupt=detach",
        ),
    ];
    let limits = [
        (lifetime.time_limit.is_some(), "--time-limit"),
        (lifetime.queue_limit.is_some(), "--queue-limit"),
        (lifetime.silence_limit.is_some(), "--silence-limit"),
    ];
    let first = |options: &[(bool, &'static str)]| {
        options
            .iter()
            .find_map(|(given, name)| given.then_some(*name))
    };
    if !features.durable_jobs()
        && let Some(option) = first(&durable)
    {
        return Some(format!(
            "{option} needs a scheduler that keeps jobs for clients that go away (durable jobs), which this one does not; the job was \
             not submitted."
        ));
    }
    if !(features.durable_jobs() && features.time_limits())
        && let Some(option) = first(&limits)
    {
        return Some(format!(
            "{option} needs a scheduler that keeps the time limits of jobs, which this one does not; the job was not submitted."
        ));
    }
    None
}
