//! A client's access to a cluster: one connection, and the submission endpoint at its other end.

use std::time::Duration;

use ocluster_api::cluster_capnp::submission;
use ocluster_api::{JobSpec, JobSpecError};
use ocluster_vat::{ConnectError, Connection, DialOptions, SturdyRef, Vat};

use crate::job::Job;

/// After this much silence the scheduler is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// After this much silence the connection is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// Access to a cluster, as one of its clients. A clone is the same access.
#[derive(Clone)]
pub struct Client {
    submission: submission::Client,
    connection: Connection,
}

impl Client {
    /// Connects with a submission capability, such as `ocluster-admin add-client` prints. It works on the current
    /// [`tokio::task::LocalSet`]. A revoked or unknown capability shows in the first job, not here.
    ///
    /// Dropping the future gives up.
    ///
    /// # Errors
    /// When the scheduler cannot be reached, or is not the one which the capability names.
    pub async fn connect(
        vat: &Vat,
        cap: &SturdyRef,
        options: &DialOptions,
    ) -> Result<Self, ConnectError> {
        let connection = vat.connect(&cap.address, options, &mut |_| {}).await?;
        Ok(Self::over(connection, cap))
    }

    /// Uses a connection to the scheduler that `cap` names. A scheduler which goes silent is noticed within 15 seconds: the
    /// connection is then closed, and whatever waits for it fails with [`ocluster_vat::RpcError::Disconnected`].
    #[must_use]
    pub fn over(connection: Connection, cap: &SturdyRef) -> Self {
        let submission: submission::Client = connection.bootstrap(&cap.id);
        let (watched, object) = (connection.clone(), submission.client.clone());
        // Ends with the connection.
        tokio::task::spawn_local(async move {
            ocluster_vat::watch(&watched, &object, PING_INTERVAL, SILENCE_LIMIT).await;
        });
        Self {
            submission,
            connection,
        }
    }

    /// Submits a job to a pool, and returns at once: whether the scheduler accepts it shows in the job's log and result. An urgent
    /// job goes before all that are not.
    ///
    /// # Errors
    /// When the description itself cannot be sent.
    pub fn submit(&self, pool: &str, spec: &JobSpec, urgent: bool) -> Result<Job, JobSpecError> {
        let mut request = self.submission.submit_request();
        let mut params = request.get();
        params.set_pool(pool);
        params.set_urgent(urgent);
        spec.write(params.init_descr())?;
        Ok(Job::of_ticket(request.send().pipeline.get_ticket()))
    }

    /// The connection to the scheduler.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}
