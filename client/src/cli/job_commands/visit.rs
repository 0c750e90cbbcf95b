//! What all commands about jobs do: connect, ask, hang up; and how a scheduler's refusals read.

use ocluster_cli::{CapArgs, ExitCode, Failure, Interrupt, hang_up};
use ocluster_vat::{RpcError, Stats, Vat};

use crate::cli::access::Access;

/// Connects, does what `visit` does, and hangs up. A signal ends it early; nothing is cancelled by that.
pub(super) async fn visit(
    cap: &CapArgs,
    interrupt: &Interrupt,
    visit: impl AsyncFnOnce(&Access<'_>) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let cap = cap.load()?;
    let vat = Vat::client_only(Stats::new());
    let visited = async {
        let access = Access::connect(&vat, &cap).await?;
        visit(&access).await
    };
    let result = tokio::select! {
        result = visited => result,
        signal = interrupt.wait() => Ok(signal.exit_code()),
    };
    hang_up(&vat).await;
    result
}

/// The end of a command that the scheduler refused.
pub(super) fn refused(error: RpcError) -> Failure {
    Failure::failed(match error {
        RpcError::Unimplemented(_) => {
            "This scheduler does not give clients access to their jobs by id: it is an OCluster scheduler, or one from before durable \
             jobs. (Or the capability is not a client's.)"
                .to_owned()
        }
        RpcError::Failed(reason) => reason,
        other => other.to_string(),
    })
}
