//! Telling an admin how far a long operation is.
//!
//! A listener that fails is not the operation's problem, and one that is slow only gets fewer reports: never more than one is on its
//! way, and nobody waits longer than [`PATIENCE`] for it.

use std::time::Duration;

use ocluster_api::cluster_capnp::progress;
use tracing::debug;

/// How long one report may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener, if the admin gave one.
pub(crate) struct Reporter(Option<progress::Client>);

impl Reporter {
    /// Reports to the listener of a call's parameters, if there is one.
    ///
    /// # Errors
    /// If the parameter is there and no capability.
    pub(crate) fn new(
        is_there: bool,
        listener: capnp::Result<progress::Client>,
    ) -> capnp::Result<Self> {
        Ok(Self(if is_there { Some(listener?) } else { None }))
    }

    /// Reports one line and waits for it to be received.
    pub(crate) async fn report(&self, status: &str) {
        let Some(listener) = &self.0 else { return };
        let mut request = listener.report_request();
        request.get().set_status(status);
        match tokio::time::timeout(PATIENCE, request.send().promise).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, "Cannot report progress"),
            Err(_) => debug!("A progress report was not received in time"),
        }
    }
}
