//! A client on its host: submits jobs, follows their logs, learns how they end, cancels some, and comes back after every loss.
//!
//! What the user of a real client would still have after its machine crashed (which jobs were accepted under which ids, what of their
//! logs is on the screen) is in the history; everything else dies with the host.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use futures::StreamExt as _;
use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::{job_handle, submission_endpoint};
use ocluster_client::{Client, DialOptions, Job, RpcError, Stats, Vat};
use ocluster_vat::Connection;
use tokio::task::JoinSet;

use super::Site;
use super::site::POOL;
use crate::history::{History, Verdict, now};
use crate::network::SimNetwork;
use crate::plan::{PlannedClient, PlannedJob};

/// How long a client waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a submission that is refused is tried again: the scheduler may be about to stop.
const REFUSALS: u32 = 30;

/// A client's host, over all its lives.
#[derive(Clone)]
pub struct ClientHost {
    /// What it wants.
    pub plan: Rc<PlannedClient>,
    /// Where it notes what it sees.
    pub history: History,
}

impl ClientHost {
    /// One life.
    ///
    /// # Errors
    /// Never: whatever happens is noted.
    pub async fn live(self) -> turmoil::Result {
        let access = Rc::new(Access::new(&self.plan.name));
        let mut drives = JoinSet::new();
        for job in &self.plan.jobs {
            let drive = Drive {
                job: job.clone(),
                access: access.clone(),
                history: self.history.clone(),
            };
            drives.spawn_local(async move {
                if drive.job.attached {
                    drive.attached().await;
                } else {
                    drive.durable().await;
                }
            });
        }
        while drives.join_next().await.is_some() {}
        std::future::pending().await
    }
}

/// The way to the scheduler, over all connections.
pub(super) struct Access {
    client: String,
    vat: Vat,
    present: RefCell<Option<(Connection, Client, submission_endpoint::Client)>>,
}

impl Access {
    pub(super) fn new(client: &str) -> Self {
        Self {
            client: client.to_owned(),
            vat: Vat::over(Arc::new(SimNetwork), Stats::new()),
            present: RefCell::default(),
        }
    }

    /// A connection that lives, as far as anybody knows.
    pub(super) async fn get(&self) -> (Connection, Client, submission_endpoint::Client) {
        let cap = Site::cap(Site::client_id(&self.client));
        let options = DialOptions {
            timeout: Duration::from_secs(5),
            ..DialOptions::default()
        };
        loop {
            if let Some(present) = &*self.present.borrow()
                && !present.0.is_closed()
            {
                return present.clone();
            }
            let connected = self.vat.connect(&cap.address, &options, &mut |_| {}).await;
            match connected {
                Ok(connection) => {
                    let endpoint = connection.bootstrap(&cap.id);
                    let client = Client::over(connection.clone(), &cap);
                    self.present.replace(Some((connection, client, endpoint)));
                }
                Err(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    }
}

/// One job of the client.
struct Drive {
    job: PlannedJob,
    access: Rc<Access>,
    history: History,
}

impl Drive {
    fn key(&self) -> &str {
        &self.job.work.key
    }

    async fn wait_for_the_time(&self) {
        tokio::time::sleep(self.job.at.saturating_sub(now())).await;
    }

    /// A job that lives as long as this client: it is submitted once, and what becomes of it when the connection goes is nobody's concern.
    async fn attached(&self) {
        let key = self.key();
        if self.history.job(key, |job| job.asked.is_some()) {
            return;
        }
        self.wait_for_the_time().await;
        let (connection, client, _) = self.access.get().await;
        let Ok(spec) = self.job.work.spec() else {
            return;
        };
        self.history.job(key, |job| job.asked = Some(now()));
        let job = match client.submit(POOL, &spec, self.job.urgent) {
            Ok(job) => job,
            Err(error) => return self.history.violation(format_args!("{key}: {error}")),
        };
        let (followed, (), ()) = tokio::join!(
            self.follow_attached(&connection, &job),
            self.learn_attached(&connection, &job),
            self.cancel_attached(&job),
        );
        if let Err(error) = followed {
            self.history
                .note(format_args!("{key}: its log ends: {error}"));
        }
    }

    async fn follow_attached(&self, _: &Connection, job: &Job) -> Result<(), RpcError> {
        let mut log = std::pin::pin!(job.log(0));
        while let Some(piece) = log.next().await {
            self.read(&piece?);
        }
        self.read_all();
        Ok(())
    }

    async fn learn_attached(&self, connection: &Connection, job: &Job) {
        let verdict = match job.result().await {
            Ok(output) => Verdict::Passed(output),
            Err(_) if connection.is_closed() => return,
            Err(error) => Verdict::Failed(error.to_string()),
        };
        self.told(verdict);
    }

    async fn cancel_attached(&self, job: &Job) {
        let Some(after) = self.job.cancel_after else {
            return;
        };
        tokio::time::sleep(after).await;
        // Whether that came in time, its result tells.
        let _ = job.cancel().await;
    }

    /// A job that the scheduler keeps.
    async fn durable(&self) {
        self.wait_for_the_time().await;
        let Some(id) = self.submit().await else {
            return;
        };
        tokio::join!(self.follow(&id), self.learn(&id), self.cancel(&id));
    }

    /// Submits until the scheduler has answered. Gives the id.
    async fn submit(&self) -> Option<String> {
        let key = self.key();
        let (accepted, refused) = self
            .history
            .job(key, |job| (job.accepted.clone(), job.refused.clone()));
        if refused.is_some() {
            return None;
        }
        if let Some((_, id)) = accepted {
            return Some(id);
        }
        let mut refusals = 0;
        loop {
            let (_, _, endpoint) = self.access.get().await;
            self.history
                .job(key, |job| job.asked = job.asked.or(Some(now())));
            match self.try_submit(&endpoint).await {
                Ok((id, known)) => {
                    self.history
                        .note(format_args!("{key} is accepted as {id}, known: {known}"));
                    self.history
                        .job(key, |job| job.accepted = Some((now(), id.clone())));
                    return Some(id);
                }
                Err(RpcError::Disconnected(_)) => {}
                Err(error) => {
                    self.history.note(format_args!("{key} is refused: {error}"));
                    refusals += 1;
                    if refusals > REFUSALS {
                        self.history
                            .job(key, |job| job.refused = Some(error.to_string()));
                        return None;
                    }
                }
            }
            tokio::time::sleep(PATIENCE).await;
        }
    }

    async fn try_submit(
        &self,
        endpoint: &submission_endpoint::Client,
    ) -> Result<(String, bool), RpcError> {
        let mut request = endpoint.submit_job_request();
        let mut job = request.get().init_job();
        job.set_pool(POOL);
        job.set_urgent(self.job.urgent);
        job.set_key(self.key());
        let spec = self.job.work.spec();
        let spec = spec.map_err(|error| RpcError::Failed(error.to_string()))?;
        spec.write(job.init_descr())
            .map_err(|error| RpcError::Failed(error.to_string()))?;
        let response = request.send().promise.await?;
        let answer = response.get()?;
        let id = answer.get_id()?.to_string();
        Ok((id.unwrap_or_default(), answer.get_known()))
    }

    /// Reads the log to its end, through all losses.
    async fn follow(&self, id: &str) {
        let key = self.key();
        while !self.history.job(key, |job| job.log_complete) {
            let (connection, _, endpoint) = self.access.get().await;
            let error = match self.read_on(&endpoint, id).await {
                Ok(()) => return self.read_all(),
                Err(error) => error,
            };
            if !connection.is_closed() && !matches!(error, RpcError::Disconnected(_)) {
                self.history
                    .note(format_args!("{key}: its log ends: {error}"));
                return;
            }
            self.history.job(key, |job| job.resumed_reads += 1);
            tokio::time::sleep(PATIENCE).await;
        }
    }

    async fn read_on(
        &self,
        endpoint: &submission_endpoint::Client,
        id: &str,
    ) -> Result<(), RpcError> {
        let handle = find(endpoint, id).await?;
        loop {
            let start = self.history.job(self.key(), |job| job.log.len());
            let mut request = as_job(&handle).log_request();
            request
                .get()
                .set_start(i64::try_from(start).unwrap_or(i64::MAX));
            let response = request.send().promise.await?;
            let answer = response.get()?;
            let piece = answer.get_log()?;
            if piece.is_empty() {
                return Ok(());
            }
            self.read(piece);
            let end = self.history.job(self.key(), |job| job.log.len());
            if usize::try_from(answer.get_next()).ok() != Some(end) {
                self.history.violation(format_args!(
                    "{}: {} bytes at {start} go on at {}",
                    self.key(),
                    piece.len(),
                    answer.get_next()
                ));
            }
        }
    }

    /// Waits for the end, through all losses.
    async fn learn(&self, id: &str) {
        let key = self.key();
        while self.history.job(key, |job| job.verdicts.is_empty()) {
            let (connection, _, endpoint) = self.access.get().await;
            match result(&endpoint, id).await {
                Ok(output) => self.told(Verdict::Passed(output)),
                Err(RpcError::Disconnected(_)) => tokio::time::sleep(PATIENCE).await,
                Err(_) if connection.is_closed() => tokio::time::sleep(PATIENCE).await,
                Err(error) => self.told(Verdict::Failed(error.to_string())),
            }
        }
    }

    /// Cancels the job if that is planned, and insists until there is an answer.
    async fn cancel(&self, id: &str) {
        let key = self.key();
        let Some(after) = self.job.cancel_after else {
            return;
        };
        tokio::time::sleep((self.job.at + after).saturating_sub(now())).await;
        loop {
            let (connection, _, endpoint) = self.access.get().await;
            self.history.job(key, |job| {
                job.cancel_asked = job.cancel_asked.or(Some(now()))
            });
            match stop(&endpoint, id).await {
                Ok(()) => {
                    self.history.note(format_args!("{key} is cancelled"));
                    self.history.job(key, |job| job.cancelled = Some(now()));
                    return;
                }
                Err(error)
                    if !connection.is_closed() && !matches!(error, RpcError::Disconnected(_)) =>
                {
                    return self
                        .history
                        .note(format_args!("{key} is not cancelled: {error}"));
                }
                Err(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    }

    fn read(&self, piece: &[u8]) {
        self.history
            .job(self.key(), |job| job.log.extend_from_slice(piece));
    }

    fn read_all(&self) {
        let length = self.history.job(self.key(), |job| {
            job.log_complete = true;
            job.log.len()
        });
        self.history
            .note(format_args!("{}: its log has {length} bytes", self.key()));
    }

    fn told(&self, verdict: Verdict) {
        self.history
            .note(format_args!("{}: {verdict:?}", self.key()));
        self.history
            .job(self.key(), |job| job.verdicts.push((now(), verdict)));
    }
}

/// A job of the client, by its id.
pub(super) async fn find(
    endpoint: &submission_endpoint::Client,
    id: &str,
) -> Result<job_handle::Client, RpcError> {
    let mut request = endpoint.find_request();
    request.get().set_id(id);
    let response = request.send().promise.await?;
    Ok(response.get()?.get_handle()?)
}

/// The handle as the frozen interface that it extends.
pub(super) fn as_job(handle: &job_handle::Client) -> job::Client {
    handle.clone().cast_to()
}

/// How the job ended, as `Job.result` says.
pub(super) async fn result(
    endpoint: &submission_endpoint::Client,
    id: &str,
) -> Result<String, RpcError> {
    let handle = find(endpoint, id).await?;
    let response = as_job(&handle).result_request().send().promise.await?;
    let output = response.get()?.get_output()?;
    Ok(String::from_utf8_lossy(output.as_bytes()).into_owned())
}

async fn stop(endpoint: &submission_endpoint::Client, id: &str) -> Result<(), RpcError> {
    let handle = find(endpoint, id).await?;
    let mut request = handle.stop_request();
    request.get().set_reason("the plan says so");
    request.send().promise.await?;
    Ok(())
}
