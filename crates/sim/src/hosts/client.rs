//! A client on its host: submits jobs, follows their logs, learns how they end, cancels some, and comes back after every loss.
//!
//! What the user of a real client would still have after its machine crashed (which jobs were accepted under which ids, what of their
//! logs is on the screen) is in the history; everything else dies with the host.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use ocluster_client::{
    Client, DialOptions, DurableSpec, Job, JobLimits, RpcError, Stats, SubmitError, Vat,
};
use tokio::sync::Mutex;
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
    present: RefCell<Option<Client>>,
    /// One of the client's tasks dials at a time.
    dialling: Mutex<()>,
}

impl Access {
    pub(super) fn new(client: &str) -> Self {
        Self {
            client: client.to_owned(),
            vat: Vat::over(Arc::new(SimNetwork), Stats::new()),
            present: RefCell::default(),
            dialling: Mutex::default(),
        }
    }

    /// A connection that lives, as far as anybody knows.
    pub(super) async fn get(&self) -> Client {
        let cap = Site::cap(Site::client_id(&self.client));
        let options = DialOptions {
            timeout: Duration::from_secs(5),
            ..DialOptions::default()
        };
        let _dialling = self.dialling.lock().await;
        loop {
            if let Some(present) = &*self.present.borrow()
                && !present.connection().is_closed()
            {
                return present.clone();
            }
            let connected = self.vat.connect(&cap.address, &options, &mut |_| {}).await;
            match connected {
                Ok(connection) => {
                    let client = Client::over(connection, &cap);
                    self.present.replace(Some(client));
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
        let client = self.access.get().await;
        let Ok(spec) = self.job.work.spec() else {
            return;
        };
        self.history.job(key, |job| job.asked = Some(now()));
        let job = match client.submit(POOL, &spec, self.job.urgent) {
            Ok(job) => job,
            Err(error) => return self.history.violation(format_args!("{key}: {error}")),
        };
        let (followed, (), ()) = tokio::join!(
            self.follow_attached(&job),
            self.learn_attached(&client, &job),
            self.cancel_attached(&job),
        );
        if let Err(error) = followed {
            self.history
                .note(format_args!("{key}: its log ends: {error}"));
        }
    }

    async fn follow_attached(&self, job: &Job) -> Result<(), RpcError> {
        let mut log = std::pin::pin!(job.log(0));
        while let Some(piece) = log.next().await {
            self.read(&piece?);
        }
        self.read_all();
        Ok(())
    }

    async fn learn_attached(&self, client: &Client, job: &Job) {
        let verdict = match job.result().await {
            Ok(output) => Verdict::Passed(output),
            Err(_) if client.connection().is_closed() => return,
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
            let client = self.access.get().await;
            self.history
                .job(key, |job| job.asked = job.asked.or(Some(now())));
            match self.try_submit(&client).await {
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

    async fn try_submit(&self, client: &Client) -> Result<(String, bool), RpcError> {
        let failed = |error: &dyn std::fmt::Display| RpcError::Failed(error.to_string());
        let spec = DurableSpec {
            pool: POOL.to_owned(),
            job: self.job.work.spec().map_err(|error| failed(&error))?,
            urgent: self.job.urgent,
            key: self.key().to_owned(),
            limits: JobLimits::default(),
        };
        match client.submit_durable(&spec).await {
            Ok(job) => Ok((job.id().to_owned(), job.known())),
            Err(SubmitError::Rpc(error)) => Err(error),
            Err(SubmitError::Spec(error)) => Err(failed(&error)),
        }
    }

    /// Reads the log to its end, through all losses.
    async fn follow(&self, id: &str) {
        let key = self.key();
        while !self.history.job(key, |job| job.log_complete) {
            let client = self.access.get().await;
            let error = match self.read_on(&client, id).await {
                Ok(()) => return self.read_all(),
                Err(error) => error,
            };
            if !client.connection().is_closed() && !matches!(error, RpcError::Disconnected(_)) {
                self.history
                    .note(format_args!("{key}: its log ends: {error}"));
                return;
            }
            self.history.job(key, |job| job.resumed_reads += 1);
            tokio::time::sleep(PATIENCE).await;
        }
    }

    async fn read_on(&self, client: &Client, id: &str) -> Result<(), RpcError> {
        let job = client.find(id).await?;
        let start = self.history.job(self.key(), |job| job.log.len());
        let mut log = std::pin::pin!(job.log(start as u64));
        while let Some(piece) = log.next().await {
            self.read(&piece?);
        }
        Ok(())
    }

    /// Waits for the end, through all losses.
    async fn learn(&self, id: &str) {
        let key = self.key();
        while self.history.job(key, |job| job.verdicts.is_empty()) {
            let client = self.access.get().await;
            match result(&client, id).await {
                Ok(output) => self.told(Verdict::Passed(output)),
                Err(RpcError::Disconnected(_)) => tokio::time::sleep(PATIENCE).await,
                Err(_) if client.connection().is_closed() => tokio::time::sleep(PATIENCE).await,
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
            let client = self.access.get().await;
            self.history.job(key, |job| {
                job.cancel_asked = job.cancel_asked.or(Some(now()))
            });
            match stop(&client, id).await {
                Ok(()) => {
                    self.history.note(format_args!("{key} is cancelled"));
                    self.history.job(key, |job| job.cancelled = Some(now()));
                    return;
                }
                Err(error)
                    if !client.connection().is_closed()
                        && !matches!(error, RpcError::Disconnected(_)) =>
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

async fn result(client: &Client, id: &str) -> Result<String, RpcError> {
    client.find(id).await?.result().await
}

async fn stop(client: &Client, id: &str) -> Result<(), RpcError> {
    client.find(id).await?.stop("the plan says so").await
}
