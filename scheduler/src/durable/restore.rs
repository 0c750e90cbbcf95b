//! The scheduler comes back: what was accepted before is there again, in the same order; jobs on workers wait for these to come back;
//! what lived only as long as its client is over.

use std::collections::HashMap;
use std::rc::Rc;

use ocluster_joblog::{End, LogInfo, LogStore, LogWriter};
use ocluster_scheduling::{ClientId, Hint, PoolName};
use ocluster_store::{Cause, Change, JobRecord, JobState, StoreError};
use tokio::time::Instant;
use tracing::{info, warn};

use super::attempt::Attempt;
use super::attend;
use super::job::{DurableJob, Names, Phase};
use super::verdict;
use crate::state::{Entry, Scheduler};

/// Records that are taken in at once: there may be a million, and they are not to be in memory together.
const PIECE: usize = 512;

/// Takes back the jobs that were open when the last run of the scheduler ended.
///
/// # Errors
/// If the store cannot write.
pub(crate) async fn restore(scheduler: &Rc<Scheduler>) -> Result<(), StoreError> {
    let mut logs = Logs::find(scheduler.logs()).await;
    let mut names = Shared::default();
    let (mut queued, mut running) = (0u64, 0u64);
    let mut next = fetch(scheduler, None);
    loop {
        // So that the next piece is on its way while this one is taken in.
        tokio::task::yield_now().await;
        let piece = next.await.unwrap_or(Err(StoreError::Closed))?;
        let Some(last) = piece.last().map(|record| record.id) else {
            break;
        };
        next = fetch(scheduler, Some(last));
        tokio::task::yield_now().await;
        let mut lost = Vec::new();
        for record in piece {
            if !record.durable {
                lost.push(record);
                continue;
            }
            let quota = scheduler.quota(&record.client.as_str().into()).log;
            let log = logs.take(record.id.get(), quota).await;
            match record.state {
                JobState::Running => {
                    running += 1;
                    back_on_worker(scheduler, record, log, &mut names);
                }
                _ => {
                    queued += 1;
                    back_in_queue(scheduler, record, log, &mut names);
                }
            }
        }
        close_attached(scheduler, lost).await?;
    }
    if queued + running > 0 {
        info!("Took back {queued} queued and {running} running jobs");
    }
    logs.break_the_rest().await;
    Ok(())
}

/// A piece of the open jobs, which the store reads meanwhile.
fn fetch(
    scheduler: &Scheduler,
    after: Option<ocluster_store::JobId>,
) -> tokio::task::JoinHandle<Result<Vec<JobRecord>, StoreError>> {
    let store = scheduler.records().store().clone();
    tokio::task::spawn_local(async move { store.open_jobs(after, PIECE).await })
}

fn back_in_queue(
    scheduler: &Rc<Scheduler>,
    record: JobRecord,
    log: Option<LogWriter>,
    names: &mut Shared,
) {
    let job = DurableJob::of_record(record, names);
    job.log.replace(log);
    scheduler.add_entry(job.id, Entry::Durable(job.clone()));
    end_without_pool(scheduler, &job);
    scheduler.end_without_client(&job);
    let stop = job.stop.borrow().as_deref().cloned();
    if let Some(cause) = stop {
        let (tasks, scheduler) = (scheduler.tasks().clone(), scheduler.clone());
        tasks.spawn_local(async move { verdict::end_in_queue(&scheduler, &job, cause).await });
        return;
    }
    scheduler.await_worker(&job);
    if let Err(refusal) = scheduler.handle(job.requeued()) {
        warn!(job = %job.store_id(), %refusal, "Cannot queue a job again");
    }
}

/// A job whose pool is not there any more is made to end: nobody could ever run it.
fn end_without_pool(scheduler: &Scheduler, job: &DurableJob) {
    if scheduler.check_pool(&job.pool).is_err() {
        let cause = Cause {
            code: "pool-gone".to_owned(),
            sentence: format!(
                "the pool \"{}\" is not there any more since the scheduler was restarted",
                job.pool
            ),
        };
        job.stop.borrow_mut().get_or_insert_with(|| Box::new(cause));
    }
}

/// It runs, if its worker is still there: that has some time to come back and say so.
fn back_on_worker(
    scheduler: &Rc<Scheduler>,
    record: JobRecord,
    log: Option<LogWriter>,
    names: &mut Shared,
) {
    let worker = record.worker.clone().unwrap_or_default();
    let (identity, started) = (record.worker_identity, record.times.started);
    let log_start = record.log_start;
    let job = DurableJob::of_record(record, names);
    end_without_pool(scheduler, &job);
    let log = match log {
        Some(log) => log,
        // Nothing was printed, or nothing of it reached the disk.
        None => match scheduler.create_log(job.id, &job.client) {
            Ok(log) => log,
            Err(error) => {
                warn!(job = %job.store_id(), %error, "Cannot keep this job's log, so it is left for the next start");
                return;
            }
        },
    };
    let length = log.length();
    let attempt = Attempt::new(
        job.attempt.get(),
        worker.as_str().into(),
        identity,
        started.unwrap_or_default(),
        log_start.min(length),
        None,
    );
    attempt
        .received
        .set(log.content_length().saturating_sub(log_start));
    attempt.log_length.set(length);
    if job.stop.borrow().is_some() {
        attempt.stop.cancel();
    }
    // A worker that is not known again has cancelled its jobs, as the frozen protocol says.
    let back_by = if identity.is_some() {
        Instant::now() + scheduler.table().policy.readopt_grace
    } else {
        Instant::now()
    };
    job.move_to(Phase::Taken(attempt.clone()));
    scheduler.add_entry(job.id, Entry::Durable(job.clone()));
    scheduler.durable_taken(&job);
    let (tasks, scheduler) = (scheduler.tasks().clone(), scheduler.clone());
    // The log is shorter than the record says if its last bytes did not reach the disk. What is read from now on counts from there.
    let corrected = (log_start > length).then(|| Change::JobRecorded(Box::new(job.record())));
    tasks.spawn_local(async move {
        if let Some(change) = corrected
            && let Err(error) = scheduler.records().commit_in_time(vec![change]).await
        {
            warn!(job = %job.store_id(), %error, "Cannot correct a job's record");
        }
        attend::attend(&scheduler, &job, &attempt, log, Some(back_by)).await;
    });
}

/// Jobs whose clients and workers have lost them.
async fn close_attached(scheduler: &Scheduler, jobs: Vec<JobRecord>) -> Result<(), StoreError> {
    let now = scheduler.now_ms();
    let mut changes = jobs.into_iter().map(|mut job| {
        job.times.ended = Some(now);
        let sentence = match job.state {
            JobState::Queued => "The scheduler was restarted while this job was queued",
            _ => "The scheduler was restarted while this job ran",
        };
        job.state = JobState::Lost;
        job.cause = Some(Cause {
            code: "scheduler-restarted".to_owned(),
            sentence: sentence.to_owned(),
        });
        Change::JobRecorded(Box::new(job))
    });
    loop {
        // In pieces, each waited for: there may be more than the store takes at once.
        let piece: Vec<Change> = changes.by_ref().take(4096).collect();
        if piece.is_empty() {
            return Ok(());
        }
        scheduler.records().commit(piece).await?;
    }
}

/// The logs there are.
struct Logs {
    store: LogStore,
    logs: HashMap<u64, LogInfo>,
}

impl Logs {
    async fn find(store: &LogStore) -> Self {
        let logs = store.list().await.into_iter();
        let logs = logs.filter(|log| !log.live);
        Self {
            store: store.clone(),
            logs: logs.map(|log| (log.id, log)).collect(),
        }
    }

    /// The log of a job that goes on. It may have ended already, if the end of the job did not reach the disk any more.
    async fn take(&mut self, id: u64, quota: Option<u64>) -> Option<LogWriter> {
        let log = self.logs.remove(&id)?;
        match self.store.reopen_within(id, log.length, quota).await {
            Ok(writer) => Some(writer),
            Err(error) => {
                warn!(log = id, %error, "Cannot go on with a log");
                None
            }
        }
    }

    /// Ends those that nobody ended, of jobs that do not go on.
    async fn break_the_rest(self) {
        let open = self.logs.into_values().filter(|log| log.end.is_none());
        for log in open {
            let Ok(writer) = self.store.resume(log.id, log.length).await else {
                continue;
            };
            let end = End::Broken {
                reason: "Disconnected: the scheduler was restarted while this job ran".to_owned(),
            };
            match writer.finish(end).await {
                Ok(log) => {
                    info!(
                        job = log.id,
                        length = log.length,
                        "Closed the log of a job that was cut off"
                    );
                }
                Err(error) => warn!(log = log.id, %error, "an unfinished log stays so"),
            }
        }
    }
}

/// One name for each text, so that a million jobs share a few.
#[derive(Default)]
struct Shared {
    pools: HashMap<String, PoolName>,
    clients: HashMap<String, ClientId>,
    hints: HashMap<String, Hint>,
}

fn shared<T: Clone + for<'a> From<&'a str>>(names: &mut HashMap<String, T>, text: &str) -> T {
    if let Some(name) = names.get(text) {
        return name.clone();
    }
    let name = T::from(text);
    names.insert(text.to_owned(), name.clone());
    name
}

impl Names for Shared {
    fn pool(&mut self, text: &str) -> PoolName {
        shared(&mut self.pools, text)
    }

    fn client(&mut self, text: &str) -> ClientId {
        shared(&mut self.clients, text)
    }

    fn hint(&mut self, text: &str) -> Hint {
        shared(&mut self.hints, text)
    }
}
