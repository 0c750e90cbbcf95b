//! A client's access to a cluster: one connection, and the submission endpoint at its other end.

use std::time::Duration;

use ocluster_api::cluster_capnp::submission;
use ocluster_api::extensions_capnp::submission_endpoint;
use ocluster_api::{JobSpec, JobSpecError};
use ocluster_cli::jobs::JobPage;
use ocluster_vat::{ConnectError, Connection, DialOptions, RpcError, SturdyRef, Vat};

use crate::durable::{DurableJob, DurableSpec, SubmitError};
use crate::job::Job;
use crate::query::{Changes, Features, JobQuery};

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

    /// Asks what the scheduler offers beyond OCluster's protocol: nothing, if it does not know the question.
    ///
    /// # Errors
    /// When the capability is not valid, or the connection was lost.
    pub async fn features(&self) -> Result<Features, RpcError> {
        let response = match self.endpoint().features_request().send().promise.await {
            Ok(response) => response,
            Err(error) => match RpcError::from(error) {
                RpcError::Unimplemented(_) => return Ok(Features::default()),
                error => return Err(error),
            },
        };
        let mut names = Vec::new();
        for name in response.get()?.get_features()? {
            names.push(String::from_utf8_lossy(name?.as_bytes()).into_owned());
        }
        Ok(Features::new(names))
    }

    /// Submits a job which the scheduler keeps whatever happens to this client, and returns when that is on its disk.
    ///
    /// Cancelling the wait leaves it open whether the job was accepted. With a key, submitting it again tells.
    ///
    /// # Errors
    /// When the job was refused, cannot be sent, or the connection was lost.
    pub async fn submit_durable(&self, spec: &DurableSpec) -> Result<DurableJob, SubmitError> {
        let mut request = self.endpoint().submit_job_request();
        let mut job = request.get().init_job();
        job.set_pool(&spec.pool);
        job.set_urgent(spec.urgent);
        job.set_key(&spec.key);
        spec.limits.write(job.reborrow().init_limits());
        spec.job.write(job.init_descr())?;
        let response = request.send().promise.await.map_err(RpcError::from)?;
        let answer = response.get().map_err(RpcError::from)?;
        let handle = answer.get_handle().map_err(RpcError::from)?;
        let id = answer.get_id().map_err(RpcError::from)?;
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        Ok(DurableJob::new(id, answer.get_known(), handle))
    }

    /// Finds a job of this client by its id, or by the beginning of it if no other job's begins so.
    ///
    /// # Errors
    /// When there is no such job, or several, or the connection was lost.
    pub async fn find(&self, id: &str) -> Result<DurableJob, RpcError> {
        let mut request = self.endpoint().find_request();
        request.get().set_id(id);
        let response = request.send().promise.await?;
        let answer = response.get()?;
        let id = String::from_utf8_lossy(answer.get_id()?.as_bytes()).into_owned();
        Ok(DurableJob::new(id, true, answer.get_handle()?))
    }

    /// Lists jobs of this client, newest first.
    ///
    /// # Errors
    /// When the scheduler keeps no records, or the connection was lost.
    pub async fn list(&self, query: &JobQuery) -> Result<JobPage, RpcError> {
        let mut request = self.endpoint().list_request();
        query.write(request.get().init_query());
        let response = request.send().promise.await?;
        let answer = response.get()?;
        Ok(JobPage::read(answer.get_jobs()?, answer.get_more()?)?)
    }

    /// Waits until jobs have changed since `cursor`, for at most some half a minute. 0 stands for now, and is answered at once with
    /// the cursor to go on with.
    ///
    /// # Errors
    /// When the scheduler keeps no records, or the connection was lost.
    pub async fn watch(&self, query: &JobQuery, cursor: u64) -> Result<Changes, RpcError> {
        let mut request = self.endpoint().watch_request();
        request.get().set_cursor(cursor);
        query.write(request.get().init_query());
        let response = request.send().promise.await?;
        Ok(Changes::read(response.get()?)?)
    }

    fn endpoint(&self) -> submission_endpoint::Client {
        submission_endpoint::Client {
            client: self.submission.client.clone(),
        }
    }

    /// The connection to the scheduler.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}
