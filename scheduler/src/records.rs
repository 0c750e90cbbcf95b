//! What the scheduler writes down: translates the core's records and the jobs' records into changes of the store.
//!
//! Writing never waits here. Who must not answer before something is on disk awaits [`Records::flushed`].

use std::time::Duration;

use ocluster_scheduling::{AdminPause, Cluster, PauseNote, Record, Timestamp};
use ocluster_store::{Change, JobRecord, Pause, Snapshot, StoreError, StoreHandle};
use tracing::error;

/// How long to wait before what the store had no room for is brought to it again.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// The way to the store.
pub(crate) struct Records {
    store: StoreHandle,
}

impl Records {
    pub(crate) fn new(store: StoreHandle) -> Self {
        Self { store }
    }

    /// Queues changes to be written soon, in order.
    ///
    /// What is running goes on whatever happens here, because it does not depend on the store.
    ///
    /// # Errors
    /// Why they were not taken, which is logged as well.
    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        match self.store.submit(changes) {
            Ok(_pressure) => Ok(()),
            Err(error) => {
                error!(%error, "Cannot write down a change");
                Err(error)
            }
        }
    }

    /// Queues the record of a job. A record that cannot be written is missing; the log says so.
    pub(crate) fn write_job(&self, record: JobRecord) {
        let _ = self.write(vec![Change::JobRecorded(Box::new(record))]);
    }

    /// Writes changes, which are queued when this returns, and waits for them, and all before them, to be on disk.
    ///
    /// # Errors
    /// Whatever kept the store from writing.
    pub(crate) fn commit(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.store.commit(changes)
    }

    /// As [`Records::commit`], for what has to be written some time: while too much waits for the disk already, it waits for that.
    ///
    /// # Errors
    /// Whatever keeps the store from writing for good.
    pub(crate) async fn commit_in_time(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        loop {
            match self.commit(changes.clone()).await {
                Err(StoreError::Busy { .. }) => tokio::time::sleep(FULL_PAUSE).await,
                done => return done,
            }
        }
    }

    /// Waits for everything written so far to be on disk.
    ///
    /// # Errors
    /// Whatever kept the store from writing.
    pub(crate) async fn flushed(&self) -> Result<(), StoreError> {
        self.store.commit(Vec::new()).await
    }

    /// The store itself, for questions.
    pub(crate) fn store(&self) -> &StoreHandle {
        &self.store
    }
}

/// The store's form of a record of the scheduling core.
pub(crate) fn change_of(record: Record) -> Change {
    match record {
        Record::KnownWorker {
            pool,
            name,
            paused,
            pause,
        } => Change::WorkerKnown {
            pool: pool.as_str().to_owned(),
            name: name.as_str().to_owned(),
            paused,
            pause: pause.map(|pause| Pause {
                by: pause.by.map(|note| note.as_str().to_owned()),
                why: pause.why.map(|note| note.as_str().to_owned()),
                since_ms: pause.since_ms,
            }),
        },
        Record::Debt {
            pool,
            client,
            next_fair_start,
        } => Change::DebtSet {
            pool: pool.as_str().to_owned(),
            client: client.as_str().to_owned(),
            next_fair_start: next_fair_start.as_secs(),
        },
        Record::ForgottenWorker { pool, name } => Change::WorkerForgotten {
            pool: pool.as_str().to_owned(),
            name: name.as_str().to_owned(),
        },
        Record::CachedHint {
            pool,
            hint,
            worker,
            day,
        } => Change::HintCached {
            pool: pool.as_str().to_owned(),
            hint: hint.as_str().to_owned(),
            worker: worker.as_str().to_owned(),
            day: u32::try_from(day.0).unwrap_or(0),
        },
        Record::ExpiredHint { pool, hint, worker } => Change::HintDropped {
            pool: pool.as_str().to_owned(),
            hint: hint.as_str().to_owned(),
            worker: worker.as_str().to_owned(),
        },
        Record::Rate { pool, client, rate } => Change::RateSet {
            pool: pool.as_str().to_owned(),
            client: client.as_str().to_owned(),
            rate: rate.get(),
        },
        Record::RateDeleted { pool, client } => Change::RateDropped {
            pool: pool.as_str().to_owned(),
            client: client.as_str().to_owned(),
        },
    }
}

/// Feeds a fresh core what an earlier run of the scheduler wrote down.
///
/// A rate that cannot be one is left out, with a line in the log: the default serves instead.
pub(crate) fn restore(cluster: &mut Cluster, snapshot: &Snapshot) {
    for worker in &snapshot.workers {
        cluster.restore(Record::KnownWorker {
            pool: worker.pool.as_str().into(),
            name: worker.name.as_str().into(),
            paused: worker.paused,
            pause: worker.pause.as_ref().map(|pause| AdminPause {
                by: pause.by.as_deref().and_then(PauseNote::new),
                why: pause.why.as_deref().and_then(PauseNote::new),
                since_ms: pause.since_ms,
            }),
        });
    }
    for debt in &snapshot.debts {
        cluster.restore(Record::Debt {
            pool: debt.pool.as_str().into(),
            client: debt.client.as_str().into(),
            next_fair_start: Timestamp::from_secs(debt.next_fair_start),
        });
    }
    for hint in &snapshot.hints {
        cluster.restore(Record::CachedHint {
            pool: hint.pool.as_str().into(),
            hint: hint.hint.as_str().into(),
            worker: hint.worker.as_str().into(),
            day: ocluster_scheduling::Day(i32::try_from(hint.day).unwrap_or(i32::MAX)),
        });
    }
    for stored in &snapshot.rates {
        match ocluster_scheduling::Rate::new(stored.rate) {
            Ok(rate) => cluster.restore(Record::Rate {
                pool: stored.pool.as_str().into(),
                client: stored.client.as_str().into(),
                rate,
            }),
            Err(error) => {
                error!(pool = stored.pool, client = stored.client, %error, "Ignoring a stored rate")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ocluster_store::{JobId, JobKind, MemoryStore, Writer, WriterConfig};

    use super::*;

    fn record(id: u64) -> JobRecord {
        JobRecord::queued(JobId::new(id), "pool", "client", JobKind::Docker, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_to_be_written_waits_until_there_is_room_for_it() {
        // What nobody waits for stays where it is, until it is more than may wait.
        let config = WriterConfig {
            max_waiting_bytes: 4096,
            linger: Duration::from_secs(3600),
            ..WriterConfig::default()
        };
        let writer = Writer::start(Box::new(MemoryStore::new()), config).unwrap();
        let records = Records::new(writer.handle());
        let mut id = 0;
        while records
            .write(vec![Change::JobRecorded(Box::new(record(id)))])
            .is_ok()
        {
            id += 1;
        }
        let last = vec![Change::JobRecorded(Box::new(record(1000)))];
        assert!(matches!(
            records.commit(last.clone()).await,
            Err(StoreError::Busy { .. })
        ));
        let (written, flushed) = tokio::join!(records.commit_in_time(last), async {
            tokio::time::sleep(FULL_PAUSE * 3).await;
            records.flushed().await
        });
        flushed.unwrap();
        written.unwrap();
        assert!(
            records
                .store()
                .job(JobId::new(1000))
                .await
                .unwrap()
                .is_some()
        );
    }
}
