//! The desk where jobs are asked for by id.
//!
//! Whoever asks is told apart by [`Asker`]; a client never learns whether a job of another exists.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ocluster_joblog::{LogReader, ReadError};
use ocluster_scheduling::{ClientId, JobId as Number, PoolName, WorkerName};
use ocluster_store::{Cause, Change, JobId, JobMatch, JobRecord, JobState, StoreError};
use ocluster_vat::RpcError;

use super::{
    Asker, Explained, FindError, JobFilter, Shown, StopError, Submission, Submitted, words,
};
use crate::durable::{self, Displaced};
use crate::job_run::cut;
use crate::state::{Entry, Scheduler, SubmitError};

/// How long a watcher waits for changes.
const WATCH: Duration = Duration::from_secs(30);
/// Records that are looked at in one go, so that the store's thread is never held long.
const SCAN: usize = 2_000;
/// How many goes a list may take. What is found by then is given, with the place to go on from.
const GOES: usize = 50;

impl Asker {
    fn sees(&self, record: &JobRecord) -> bool {
        match self {
            Self::Client(client) => record.client == client.as_str(),
            Self::Admin => true,
        }
    }
}

impl JobFilter {
    fn limit(&self) -> usize {
        match self.limit {
            0 => 100,
            limit => limit.min(1000),
        }
    }

    /// As the store is asked. Nothing if nothing can match.
    fn for_asker(&self, asker: &Asker) -> Option<JobMatch> {
        let client = match (asker, &self.client) {
            (Asker::Admin, client) => client.clone(),
            (Asker::Client(own), Some(other)) if own.as_str() != other => return None,
            (Asker::Client(own), _) => Some(own.as_str().to_owned()),
        };
        Some(JobMatch {
            client,
            pool: self.pool.clone(),
            states: self.states.clone(),
            ids: None,
        })
    }

    fn matches(&self, asker: &Asker, record: &JobRecord) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        asker.sees(record)
            && is(&self.client, &record.client)
            && is(&self.pool, &record.pool)
            && (self.states.is_empty() || self.states.contains(&record.state))
    }
}

impl Scheduler {
    /// Whether durable jobs are accepted: not with a key that the next start does not have.
    pub(crate) fn offers_durable_jobs(&self) -> bool {
        self.table().offered
    }

    /// Accepts durable jobs of a client, each for itself, and returns when all that were accepted are on disk.
    pub(crate) async fn submit_durable(
        self: &Rc<Self>,
        client: &ClientId,
        submissions: Vec<Submission>,
    ) -> Vec<Submitted> {
        if !self.offers_durable_jobs() {
            let refused = submissions.iter().map(|_| Err(SubmitError::NotOffered));
            return refused.collect();
        }
        durable::submit(self, client, submissions).await
    }

    /// Finds a job by its id or an unambiguous beginning of it, among those that the asker may see.
    pub(crate) async fn find_job(&self, asker: &Asker, text: &str) -> Result<JobId, FindError> {
        let form = || FindError::Form(text.chars().take(40).collect());
        if let Ok(id) = text.parse::<JobId>()
            && let Some(record) = self.record_of(id).await?
            && asker.sees(&record)
        {
            return Ok(id);
        }
        let ranges = JobId::prefix_ranges(text).map_err(|_| form())?;
        let beginning = JobId::normalise(text);
        let mut wanted = JobFilter::default().for_asker(asker).unwrap_or_default();
        let mut found: Vec<JobId> = Vec::new();
        for range in ranges {
            wanted.ids = Some(range);
            let mut before = None;
            for _ in 0..GOES {
                let page = self.page(&wanted, before, 100).await?;
                let ids = page.0.iter().map(|record| record.id);
                found.extend(ids.filter(|id| id.to_string().starts_with(&beginning)));
                before = page.1;
                if before.is_none() || found.len() > 5 {
                    break;
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [] => Err(FindError::Unknown(text.chars().take(40).collect())),
            [one] => Ok(*one),
            several => {
                let some: Vec<String> = several.iter().take(5).map(JobId::to_string).collect();
                Err(FindError::Ambiguous {
                    text: text.to_owned(),
                    candidates: some.join(", "),
                })
            }
        }
    }

    async fn page(
        &self,
        wanted: &JobMatch,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<(Vec<JobRecord>, Option<JobId>), StoreError> {
        let store = self.records().store();
        let page = store
            .jobs_matching(wanted.clone(), before, limit, SCAN)
            .await?;
        Ok((page.records, page.next))
    }

    /// The jobs that match, newest first, and where the next page begins if there is one.
    pub(crate) async fn list_jobs(
        &self,
        asker: &Asker,
        filter: &JobFilter,
    ) -> Result<(Vec<Shown>, Option<JobId>), StoreError> {
        let Some(wanted) = filter.for_asker(asker) else {
            return Ok((Vec::new(), None));
        };
        let limit = filter.limit();
        let mut found = Vec::new();
        let mut before = filter.before;
        for _ in 0..GOES {
            let (records, next) = self.page(&wanted, before, limit - found.len()).await?;
            found.extend(records.into_iter().map(|record| self.as_of_now(record)));
            before = next;
            if before.is_none() || found.len() >= limit {
                break;
            }
        }
        Ok((found, before))
    }

    /// Waits, at most half a minute, until jobs that match have changed since `cursor`, and gives them, the cursor to go on with, and
    /// whether changes were missed. 0 stands for now, and is answered at once.
    pub(crate) async fn watch_jobs(
        &self,
        asker: &Asker,
        filter: &JobFilter,
        cursor: u64,
    ) -> Result<(Vec<Shown>, u64, bool), StoreError> {
        let until = tokio::time::Instant::now() + WATCH;
        let mut cursor = cursor;
        loop {
            let client = match asker {
                Asker::Client(client) => Some(client),
                Asker::Admin => None,
            };
            let changed = self.changes().since(cursor, client);
            let mut found = Vec::new();
            for id in changed.jobs {
                let id = JobId::new(id.0);
                if let Some(record) = self.record_of(id).await?
                    && filter.matches(asker, &record)
                {
                    found.push(self.as_of_now(record));
                }
            }
            let asked_for_now = cursor == 0;
            cursor = changed.cursor;
            if asked_for_now || changed.missed || !found.is_empty() {
                return Ok((found, cursor, changed.missed));
            }
            let waited = tokio::time::timeout_at(until, self.changes().after(cursor)).await;
            if waited.is_err() {
                return Ok((Vec::new(), cursor, false));
            }
        }
    }

    /// The record of a job: as it is in memory, else as it is on disk.
    async fn record_of(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        if let Some(Entry::Durable(job)) = self.entry(Number(id.get())) {
            return Ok(Some(job.record()));
        }
        self.records().store().job(id).await
    }

    /// A record from the disk, brought up to date with what is known in memory.
    fn as_of_now(&self, record: JobRecord) -> Shown {
        let number = Number(record.id.get());
        match self.entry(number) {
            Some(Entry::Durable(job)) => {
                let attempt = job.under_way();
                Shown {
                    record: job.record(),
                    waits_for_worker: attempt.is_some_and(|attempt| !attempt.is_connected()),
                }
            }
            Some(Entry::Attached(job)) => Shown {
                record: match job.run() {
                    Ok(Some(run)) => job.record(&run),
                    _ => job.record_of_submission(),
                },
                waits_for_worker: false,
            },
            None => Shown {
                record,
                waits_for_worker: false,
            },
        }
    }

    /// A job as it is now.
    pub(crate) async fn show_job(&self, id: JobId) -> Result<Shown, FindError> {
        let record = self.record_of(id).await?;
        let record = record.ok_or_else(|| FindError::Unknown(id.to_string()))?;
        Ok(self.as_of_now(record))
    }

    /// Waits until the job has ended, and that is on disk.
    pub(crate) async fn job_ended(&self, id: JobId) -> Result<Shown, FindError> {
        match self.entry(Number(id.get())) {
            Some(Entry::Durable(job)) => {
                return Ok(Shown {
                    record: job.ended().await,
                    waits_for_worker: false,
                });
            }
            Some(Entry::Attached(_)) => loop {
                let cursor = self.changes().since(0, None).cursor;
                if self.entry(Number(id.get())).is_none() {
                    break;
                }
                self.changes().after(cursor).await;
            },
            None => {}
        }
        self.show_job(id).await
    }

    /// What `Job.result` answers for it: waits until it has ended.
    pub(crate) async fn job_result(&self, id: JobId) -> Result<String, RpcError> {
        let shown = self.job_ended(id).await;
        let record = shown
            .map_err(|error| RpcError::Failed(error.to_string()))?
            .record;
        let sentence = || {
            let cause = record.cause.as_ref();
            cause.map_or_else(
                || "it is not known why".to_owned(),
                |cause| cause.sentence.clone(),
            )
        };
        match record.state {
            JobState::Passed => Ok(record.output),
            // The words that existing clients print.
            JobState::Failed if record.cause.as_ref().is_none_or(is_builds_own) => {
                Err(RpcError::Failed("Build failed".to_owned()))
            }
            JobState::Cancelled => Err(RpcError::Failed("Build cancelled".to_owned())),
            JobState::TimedOut => Err(RpcError::Failed(format!("Timed out: {}", sentence()))),
            _ => Err(RpcError::Failed(sentence())),
        }
    }

    /// What `Job.log` answers for it: waits until there is a log, and a byte or the end of it.
    pub(crate) async fn read_job_log(
        &self,
        id: JobId,
        start: i64,
        max: usize,
    ) -> Result<(Bytes, u64), RpcError> {
        loop {
            let entry = self.entry(Number(id.get()));
            let Some(Entry::Durable(job)) = entry else {
                let reader = match self.logs().reader(id.get()).await {
                    Ok(reader) => reader,
                    Err(ReadError::NotFound { .. }) => return self.no_log(id, start).await,
                    Err(error) => return Err(RpcError::Failed(error.to_string())),
                };
                return read(&reader, start, max).await.map_err(log_error);
            };
            let mut moved = std::pin::pin!(job.moved.notified());
            moved.as_mut().enable();
            // Something may have changed before that.
            if job.over().is_some() {
                continue;
            }
            let Some(reader) = self.logs().live_reader(id.get()) else {
                moved.await;
                continue;
            };
            // What a client has read, it must find again after a restart.
            let reader = reader.of_what_is_stored();
            match read(&reader, start, max).await {
                // The end of a log is told when the end of the job can be told, too: until then more attempts may follow.
                Ok((data, _)) if data.is_empty() => moved.await,
                // Before a restart it was longer than what reached the disk. The worker has the rest.
                Err(ReadError::PastEnd { .. }) if reader.end().is_some() => moved.await,
                Err(ReadError::PastEnd { .. }) => {
                    tokio::select! {
                        () = moved => {}
                        () = grown(&reader) => {}
                    }
                }
                Err(ReadError::Broken { .. }) if job.over().is_none() => moved.await,
                other => return other.map_err(log_error),
            }
        }
    }

    /// What is read of a job that never printed anything, or whose log is gone.
    async fn no_log(&self, id: JobId, start: i64) -> Result<(Bytes, u64), RpcError> {
        let shown = self.show_job(id).await;
        let record = shown
            .map_err(|error| RpcError::Failed(error.to_string()))?
            .record;
        if record.log_length > 0 {
            return Err(RpcError::Failed(format!(
                "the log of job {id} was removed, because of its age or to make room"
            )));
        }
        if !record.state.is_ended() {
            return Err(RpcError::Failed(format!("job {id} has no log yet")));
        }
        Ok((Bytes::new(), u64::try_from(start).unwrap_or(0)))
    }

    /// Cancels a job, for a reason in the words of whoever wants it; returns when that is on disk.
    pub(crate) async fn stop_job(
        self: &Rc<Self>,
        id: JobId,
        asker: &Asker,
        reason: &str,
    ) -> Result<(), StopError> {
        let by = match asker {
            Asker::Client(client) => format!("client \"{client}\""),
            Asker::Admin => "an administrator".to_owned(),
        };
        let cause = Cause {
            code: "cancelled".to_owned(),
            sentence: said(&format!("cancelled by {by}"), reason),
        };
        match self.entry(Number(id.get())) {
            Some(Entry::Durable(job)) => {
                if job.ending.get() {
                    return over(&job.ended().await);
                }
                self.stop_for(&job, cause);
                match job.under_way() {
                    Some(_) => {
                        // From now on it cannot pass any more, whatever its worker says and whoever is restarted.
                        let change = Change::JobRecorded(Box::new(job.record()));
                        self.records().commit_in_time(vec![change]).await?;
                        self.job_changed(job.id, &job.client);
                    }
                    None => {
                        job.ended().await;
                    }
                }
                Ok(())
            }
            Some(Entry::Attached(job)) => {
                match job.run() {
                    Ok(Some(run)) => run.cancel(),
                    Ok(None) => {
                        job.set_cancel_reason(match asker {
                            Asker::Client(_) => "Cancelled by its client",
                            Asker::Admin => "Cancelled by an administrator",
                        });
                        self.post(ocluster_scheduling::Event::Cancelled { job: job.id });
                    }
                    Err(_) => {}
                }
                Ok(())
            }
            None => match self.records().store().job(id).await? {
                Some(record) => over(&record),
                None => Ok(()),
            },
        }
    }

    /// Takes a running durable job from its worker and queues it again.
    pub(crate) async fn requeue_job(
        self: &Rc<Self>,
        id: JobId,
        reason: &str,
    ) -> Result<Shown, StopError> {
        let job = match self.entry(Number(id.get())) {
            Some(Entry::Durable(job)) => job,
            Some(Entry::Attached(_)) => return Err(StopError::NotDurable(id)),
            None => {
                return match self.records().store().job(id).await? {
                    Some(record) => over(&record).and(Err(StopError::NotDurable(id))),
                    None => Err(StopError::NotDurable(id)),
                };
            }
        };
        if job.ending.get() {
            over(&job.ended().await)?;
        }
        let Some(attempt) = job.under_way() else {
            return Err(StopError::Queued(id));
        };
        attempt.displace(Displaced {
            code: "requeued",
            sentence: said("queued again by an administrator", reason),
            counts: false,
        });
        // Until the attempt is over, which the task that follows it sees to.
        loop {
            let mut moved = std::pin::pin!(job.moved.notified());
            moved.as_mut().enable();
            let still = job
                .under_way()
                .is_some_and(|now| Rc::ptr_eq(&now, &attempt));
            if !still {
                break;
            }
            moved.await;
        }
        if let Some(record) = job.over() {
            over(&record)?;
        }
        Ok(self.as_of_now(job.record()))
    }

    /// Takes all jobs from a worker: durable ones are queued again, others cancelled. Gives how many of each.
    ///
    /// # Errors
    /// `Unknown worker` if the pool never saw one of that name.
    pub(crate) async fn evict(
        self: &Rc<Self>,
        pool: &PoolName,
        worker: &WorkerName,
        reason: &str,
    ) -> Result<(u32, u32), RpcError> {
        let known = self.look(|cluster| {
            let known = cluster.known_workers(pool).unwrap_or_default();
            known.iter().any(|known| known.name == *worker)
        });
        if !known {
            return Err(RpcError::Failed("Unknown worker".to_owned()));
        }
        let (mut moved, mut cancelled) = (0, 0);
        for job in self.durable_on(pool, worker.as_str()) {
            if let Some(attempt) = job.under_way() {
                attempt.displace(Displaced {
                    code: "evicted",
                    sentence: said("taken from its worker by an administrator", reason),
                    counts: false,
                });
                moved += 1;
            }
        }
        if let Some(session) = self.worker(pool, worker) {
            for job in self.attached_on(session.id) {
                if let Ok(Some(run)) = job.run() {
                    run.cancel();
                    cancelled += 1;
                }
            }
        }
        Ok((moved, cancelled))
    }

    /// Why the job stands where it stands.
    pub(crate) async fn explain_job(&self, id: JobId) -> Result<Explained, FindError> {
        let shown = self.show_job(id).await?;
        let waiting = self.look(|cluster| cluster.explain(Number(id.get())));
        let policy = &self.table().policy;
        Ok(words::explain(
            shown,
            waiting.as_ref(),
            policy.max_attempts,
            self.now(),
        ))
    }
}

/// Whether a job failed by its own doing.
fn is_builds_own(cause: &Cause) -> bool {
    matches!(
        cause.code.as_str(),
        "build-failed" | "bad-request" | "source-failed" | "registry-failed"
    )
}

fn said(what: &str, reason: &str) -> String {
    match cut(reason).trim() {
        "" => what.to_owned(),
        reason => format!("{what}: {reason}"),
    }
}

/// That a job is over is no refusal if it was cancelled anyway.
fn over(record: &JobRecord) -> Result<(), StopError> {
    let ended = match record.state {
        JobState::Cancelled => return Ok(()),
        JobState::Passed => "has passed",
        JobState::Failed => "has failed",
        JobState::TimedOut => "has timed out",
        JobState::Lost => "was lost",
        JobState::Queued | JobState::Running => "has ended",
    };
    Err(StopError::Over {
        id: record.id,
        ended: ended.to_owned(),
    })
}

async fn read(reader: &LogReader, start: i64, max: usize) -> Result<(Bytes, u64), ReadError> {
    let chunk = reader.read(start, max).await?;
    Ok((chunk.data, chunk.next))
}

/// Waits until there is more of a log, or it ends.
async fn grown(reader: &LogReader) {
    let length = i64::try_from(reader.length()).unwrap_or(i64::MAX);
    // What it says is read by whoever waits.
    let _ = reader.read(length, 1).await;
}

/// A log whose worker was lost ends as a lost connection does: clients tell the two kinds of error apart.
pub(crate) fn log_error(error: ReadError) -> RpcError {
    match error {
        ReadError::Broken { reason } => match reason.strip_prefix("Disconnected: ") {
            Some(reason) => RpcError::Disconnected(reason.to_owned()),
            None => RpcError::Failed(
                reason
                    .strip_prefix("Failed: ")
                    .unwrap_or(&reason)
                    .to_owned(),
            ),
        },
        other => RpcError::Failed(other.to_string()),
    }
}
