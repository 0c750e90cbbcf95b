//! Handing a durable job to the scheduler, as often as it takes to hear that it has it.

use ocluster_cli::{Failure, output};

use crate::cli::access::Access;
use crate::cli::args::JobArgs;
use crate::cli::result::log_failure;
use crate::{DurableJob, DurableSpec, SubmitError};

/// How often in a row a connection may be lost before the submission is answered. It may be the submission that ends it.
const MAX_UNANSWERED: u32 = 5;

/// Submits the job until there is an answer. The key makes all submissions one.
pub(super) async fn accept(
    access: &Access<'_>,
    spec: &DurableSpec,
    args: &JobArgs,
) -> Result<DurableJob, Failure> {
    let mut unanswered = 0;
    loop {
        match access.client().submit_durable(spec).await {
            Ok(job) => return Ok(job),
            Err(SubmitError::Spec(error)) => {
                return Err(Failure::failed(format!("the job cannot be sent: {error}")));
            }
            Err(SubmitError::Rpc(error))
                if error.is_disconnected() && unanswered < MAX_UNANSWERED =>
            {
                unanswered += 1;
                access.reconnect(&error).await;
                output::complain("Reconnected; submitting the job again.");
            }
            Err(SubmitError::Rpc(error)) if args.lifetime.detach => {
                return Err(Failure::failed(format!(
                    "The job was not accepted: {error}"
                )));
            }
            Err(SubmitError::Rpc(error)) => return Err(log_failure(None, error, args.output)?),
        }
    }
}
