//! Connecting to the cluster, with progress.

use std::time::Duration;

use ocluster_vat::{ConnectError, Connection, DialOptions, SturdyRef, Vat};

use crate::progress::ConnectProgress;

/// How long a program that is done waits for its last words to leave.
const GOODBYE: Duration = Duration::from_millis(500);

/// Connects to the vat which `sturdy_ref` names, telling the user how it goes on standard error. The reference's id is not used: a
/// bad one shows in the first call.
///
/// Dropping the future gives up.
///
/// # Errors
/// When the other end cannot be reached, or is not the one that the reference names.
pub async fn connect(
    vat: &Vat,
    sturdy_ref: &SturdyRef,
    options: &DialOptions,
) -> Result<Connection, ConnectError> {
    let mut progress = ConnectProgress::begin(&sturdy_ref.address);
    let mut unheard = |_| {};
    let result = tokio::select! {
        result = vat.connect(&sturdy_ref.address, options, &mut unheard) => result,
        never = progress.show() => match never {},
    };
    progress.end(result.is_ok());
    result
}

/// Closes all connections of a program that is done, so that the other ends need not wonder what became of it.
pub async fn hang_up(vat: &Vat) {
    // Whatever is not said by then, the closing socket says.
    drop(tokio::time::timeout(GOODBYE, vat.disconnect_all("Client finished")).await);
}
