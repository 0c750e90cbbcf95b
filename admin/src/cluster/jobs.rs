//! Jobs by their ids, as our own schedulers know them.

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::{admin_endpoint, job_handle};
use ocluster_cli::jobs::{Explanation, JobInfo, JobPage, JobState};
use ocluster_vat::RpcError;

use super::{CallError, Cluster, call, text, texts};

/// Which jobs are wanted, and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobsQuery {
    /// Only jobs with smaller ids than this one.
    pub before: Option<String>,
    /// At most so many, up to 1,000.
    pub limit: u32,
    /// Only jobs in these states; all if there are none.
    pub states: Vec<JobState>,
    /// Only jobs of this pool.
    pub pool: Option<String>,
    /// Only jobs of this client.
    pub client: Option<String>,
}

/// A job with a record.
#[derive(Clone)]
pub struct Job {
    /// Its whole id.
    pub id: String,
    handle: job_handle::Client,
}

/// A piece of a job's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// The bytes; none at the end of the log.
    pub bytes: Vec<u8>,
    /// The byte of the log that follows.
    pub next: u64,
}

impl Cluster {
    /// What the scheduler offers beyond the frozen protocol. Nothing, if that is all it knows.
    ///
    /// # Errors
    /// When the capability is not an admin's any more, or the connection was lost.
    pub async fn features(&self) -> Result<Vec<String>, CallError> {
        let features = call("Admin.features", async {
            let response = self.endpoint().features_request().send().promise.await?;
            texts(response.get()?.get_features()?)
        });
        match features.await {
            Err(CallError {
                error: RpcError::Unimplemented(_),
                ..
            }) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Finds a job of any client by its id, or by an unambiguous beginning of it.
    ///
    /// # Errors
    /// When there is none, or there are several, or the scheduler does not know jobs by id.
    pub async fn find_job(&self, id: &str) -> Result<Job, CallError> {
        let mut request = self.endpoint().find_request();
        request.get().set_id(id);
        call("Admin.find", async {
            let response = request.send().promise.await?;
            let found = response.get()?;
            Ok(Job {
                id: text(found.get_id()?)?,
                handle: found.get_handle()?,
            })
        })
        .await
    }

    /// Jobs of all clients, newest first.
    ///
    /// # Errors
    /// When the scheduler does not know jobs by id.
    pub async fn jobs(&self, query: &JobsQuery) -> Result<JobPage, CallError> {
        let mut request = self.endpoint().list_request();
        let mut wanted = request.get().init_query();
        wanted.set_limit(query.limit);
        // What is not wanted stays empty.
        wanted.set_before(query.before.as_deref().unwrap_or_default());
        wanted.set_pool(query.pool.as_deref().unwrap_or_default());
        wanted.set_client(query.client.as_deref().unwrap_or_default());
        let states = u32::try_from(query.states.len()).unwrap_or(u32::MAX);
        let mut list = wanted.init_states(states);
        for (place, state) in (0..states).zip(&query.states) {
            list.set(place, state.name());
        }
        call("Admin.list", async {
            let response = request.send().promise.await?;
            let page = response.get()?;
            JobPage::read(page.get_jobs()?, page.get_more()?)
        })
        .await
    }

    /// Takes a running durable job from its worker and queues it again, at its old place.
    ///
    /// # Errors
    /// When there is no such job, or it does not run, or can run only once.
    pub async fn requeue(&self, id: &str, reason: &str) -> Result<JobInfo, CallError> {
        let mut request = self.endpoint().requeue_request();
        request.get().set_id(id);
        request.get().set_reason(reason);
        call("Admin.requeue", async {
            let response = request.send().promise.await?;
            JobInfo::read(response.get()?.get_info()?)
        })
        .await
    }

    fn endpoint(&self) -> admin_endpoint::Client {
        self.0.client.clone().cast_to()
    }
}

impl Job {
    /// What is known of it now.
    ///
    /// # Errors
    /// When it was forgotten meanwhile, or the connection was lost.
    pub async fn info(&self) -> Result<JobInfo, CallError> {
        call("Job.info", async {
            let response = self.handle.info_request().send().promise.await?;
            JobInfo::read(response.get()?.get_info()?)
        })
        .await
    }

    /// Waits until it has ended, and gives what is known of it then.
    ///
    /// # Errors
    /// When it was forgotten meanwhile, or the connection was lost.
    pub async fn ended(&self) -> Result<JobInfo, CallError> {
        call("Job.ended", async {
            let response = self.handle.ended_request().send().promise.await?;
            JobInfo::read(response.get()?.get_info()?)
        })
        .await
    }

    /// Cancels it, and returns when it will not pass any more.
    ///
    /// # Errors
    /// When it has ended otherwise, or the connection was lost.
    pub async fn cancel(&self, reason: &str) -> Result<(), CallError> {
        let mut request = self.handle.stop_request();
        request.get().set_reason(reason);
        call("Job.stop", async { request.send().promise.await.map(drop) }).await
    }

    /// Why it is where it is.
    ///
    /// # Errors
    /// When it was forgotten meanwhile, or the connection was lost.
    pub async fn explain(&self) -> Result<Explanation, CallError> {
        call("Job.explain", async {
            let response = self.handle.explain_request().send().promise.await?;
            Explanation::read(response.get()?.get_explanation()?)
        })
        .await
    }

    /// The log from byte `start` on, as much as comes in one message. Waits until there is something, or the log has ended.
    ///
    /// # Errors
    /// When the log cannot be read, or the connection was lost.
    pub async fn log(&self, start: u64) -> Result<LogPiece, CallError> {
        let job: job::Client = self.handle.client.clone().cast_to();
        let mut request = job.log_request();
        request
            .get()
            .set_start(i64::try_from(start).unwrap_or(i64::MAX));
        call("Job.log", async {
            let response = request.send().promise.await?;
            let piece = response.get()?;
            let bytes = piece.get_log()?.to_vec();
            let next = u64::try_from(piece.get_next()).unwrap_or_default();
            if !bytes.is_empty() && next <= start {
                return Err(capnp::Error::failed(format!(
                    "the log went back from byte {start} to byte {next}"
                )));
            }
            Ok(LogPiece { bytes, next })
        })
        .await
    }
}
