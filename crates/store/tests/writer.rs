//! Stories of the writer: one flush for many, bounds, errors that reach everybody, and closing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{hint, job, recorded, soon, worker};
use ocluster_store::{
    Change, JobId, JobIds, JobKind, JobMatch, JobPage, JobRecord, JobState, MemoryStore, Pressure,
    Snapshot, Store, StoreError, StoreHandle, Writer, WriterConfig,
};

/// A store whose disk does what the test says: each batch waits for a word, `Ok` or an error.
struct Slow {
    memory: Arc<MemoryStore>,
    batches: Arc<Mutex<Vec<usize>>>,
    /// Tells the test that a batch is at the disk.
    arrived: Sender<()>,
    verdict: Mutex<Receiver<Result<(), StoreError>>>,
}

struct Disk {
    memory: Arc<MemoryStore>,
    batches: Arc<Mutex<Vec<usize>>>,
    arrived: Receiver<()>,
    verdict: Sender<Result<(), StoreError>>,
}

fn slow() -> (Slow, Disk) {
    let (arrived, arrivals) = channel();
    let (say, verdict) = channel();
    let memory = Arc::new(MemoryStore::new());
    let batches = Arc::new(Mutex::new(Vec::new()));
    let store = Slow {
        memory: Arc::clone(&memory),
        batches: Arc::clone(&batches),
        arrived,
        verdict: Mutex::new(verdict),
    };
    let disk = Disk {
        memory,
        batches,
        arrived: arrivals,
        verdict: say,
    };
    (store, disk)
}

impl Store for Slow {
    fn load(&self, min_day: u32) -> Result<Snapshot, StoreError> {
        self.memory.load(min_day)
    }
    fn apply(&self, batch: &[Change]) -> Result<(), StoreError> {
        self.batches.lock().unwrap().push(batch.len());
        self.arrived.send(()).unwrap();
        self.verdict.lock().unwrap().recv().unwrap()?;
        self.memory.apply(batch)
    }
    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        self.memory.job(id)
    }
    fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        self.memory.jobs(before, limit)
    }
    fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.description(id)
    }
    fn job_by_key(&self, client: &str, key: &str) -> Result<Option<JobRecord>, StoreError> {
        self.memory.job_by_key(client, key)
    }
    fn jobs_matching(
        &self,
        filter: &JobMatch,
        before: Option<JobId>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, StoreError> {
        self.memory.jobs_matching(filter, before, limit, scan)
    }
    fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
        self.memory.prune_jobs(keep, ended_before_ms)
    }
    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn start(store: Slow, config: WriterConfig) -> (Writer, StoreHandle) {
    let writer = Writer::start(Box::new(store), config).unwrap();
    let handle = writer.handle();
    (writer, handle)
}

fn disk_error() -> StoreError {
    StoreError::Io {
        what: "write".to_owned(),
        why: "no space".to_owned(),
        full: true,
    }
}

#[tokio::test]
async fn changes_nobody_waits_for_share_the_flush_of_the_next_one_that_is_waited_for() {
    let (store, disk) = slow();
    let config = WriterConfig {
        linger: Duration::from_secs(3600),
        ..WriterConfig::default()
    };
    let (writer, handle) = start(store, config);
    // Given changes that nobody waits for,
    handle.submit(vec![worker("p", "w1", false)]).unwrap();
    handle.submit(vec![worker("p", "w2", false)]).unwrap();
    // when one comes that somebody waits for,
    let commit = handle.commit(vec![worker("p", "w3", false)]);
    disk.verdict.send(Ok(())).unwrap();
    soon(commit).await.unwrap();
    // then one flush was enough, and it did not wait for the hour to pass.
    assert_eq!(*disk.batches.lock().unwrap(), [3]);
    writer.close().await.unwrap();
}

#[tokio::test]
async fn of_what_becomes_of_a_job_within_one_flush_only_the_last_is_written() {
    let (store, disk) = slow();
    let config = WriterConfig {
        linger: Duration::from_secs(3600),
        ..WriterConfig::default()
    };
    let (writer, handle) = start(store, config);
    let record = |id, state| {
        let mut record = JobRecord::queued(JobId::new(id), "p", "c", JobKind::Docker, 0);
        record.state = state;
        Change::JobRecorded(Box::new(record))
    };
    for state in [JobState::Queued, JobState::Running, JobState::Passed] {
        handle.submit(vec![record(1, state)]).unwrap();
    }
    handle.submit(vec![record(2, JobState::Queued)]).unwrap();
    let commit = handle.commit(vec![worker("p", "w", false)]);
    disk.verdict.send(Ok(())).unwrap();
    soon(commit).await.unwrap();
    assert_eq!(*disk.batches.lock().unwrap(), [3]);
    let states = [1, 2].map(|id| disk.memory.job(JobId::new(id)).unwrap().unwrap().state);
    assert_eq!(states, [JobState::Passed, JobState::Queued]);
    writer.close().await.unwrap();
}

#[tokio::test]
async fn changes_nobody_waits_for_are_written_in_the_end() {
    let (store, disk) = slow();
    let (writer, handle) = start(store, WriterConfig::default());
    handle.submit(vec![worker("p", "w1", false)]).unwrap();
    disk.verdict.send(Ok(())).unwrap();
    disk.arrived.recv().unwrap();
    writer.close().await.unwrap();
    assert_eq!(disk.memory.load(0).unwrap().workers.len(), 1);
}

#[tokio::test]
async fn many_waiters_share_one_flush_and_none_is_told_early() {
    let (store, disk) = slow();
    let (writer, handle) = start(store, WriterConfig::default());
    // Given a disk busy with a first batch,
    let first = handle.commit(vec![worker("p", "w0", false)]);
    disk.arrived.recv().unwrap();
    // when a hundred more come meanwhile,
    let mut rest: Vec<_> = (1..=100)
        .map(|n| Box::pin(handle.commit(vec![worker("p", &format!("w{n}"), false)])))
        .collect();
    // then none is told before its flush,
    for commit in &mut rest {
        assert!(futures_poll(commit.as_mut()));
    }
    disk.verdict.send(Ok(())).unwrap();
    soon(first).await.unwrap();
    disk.arrived.recv().unwrap();
    assert!(
        futures_poll(rest[0].as_mut()),
        "the second flush is not done"
    );
    disk.verdict.send(Ok(())).unwrap();
    for commit in rest {
        soon(commit).await.unwrap();
    }
    // and all of them cost one.
    assert_eq!(*disk.batches.lock().unwrap(), [1, 100]);
    assert_eq!(disk.memory.load(0).unwrap().workers.len(), 101);
    assert_eq!(handle.waiting_bytes(), 0);
    writer.close().await.unwrap();
}

/// Polls once; true if it still waits.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context).is_pending()
}

#[tokio::test]
async fn a_disk_that_falls_behind_shows_as_pressure_and_then_refuses() {
    let (store, disk) = slow();
    let config = WriterConfig {
        max_waiting_bytes: 10_000,
        high_bytes: 2_000,
        ..WriterConfig::default()
    };
    let (writer, handle) = start(store, config);
    assert_eq!(
        handle.submit(vec![hint("small", "w", 1)]),
        Ok(Pressure::Low)
    );
    disk.arrived.recv().unwrap();
    let big = hint(&"x".repeat(4000), "w", 1);
    assert_eq!(handle.submit(vec![big.clone()]), Ok(Pressure::High));
    assert_eq!(handle.submit(vec![big.clone()]), Ok(Pressure::High));
    let refused = handle.submit(vec![big.clone()]).unwrap_err();
    assert_eq!(refused.code(), "busy", "{refused}");
    assert_eq!(
        soon(handle.commit(vec![big.clone()]))
            .await
            .unwrap_err()
            .code(),
        "busy"
    );
    // It recovers by itself.
    disk.verdict.send(Ok(())).unwrap();
    disk.verdict.send(Ok(())).unwrap();
    soon(handle.query(|_| ())).await.unwrap();
    assert_eq!(handle.pressure(), Pressure::Low);
    disk.verdict.send(Ok(())).unwrap();
    soon(handle.commit(vec![hint(&"y".repeat(50_000), "w", 1)]))
        .await
        .unwrap();
    writer.close().await.unwrap();
    assert_eq!(
        disk.memory.load(0).unwrap().hints.len(),
        3,
        "what was refused was not taken"
    );
}

#[tokio::test]
async fn a_storage_error_reaches_everybody_and_nothing_is_written_after_it() {
    let (store, disk) = slow();
    let (writer, handle) = start(store, WriterConfig::default());
    let mut health = handle.health();
    assert_eq!(*health.borrow_and_update(), Ok(()));
    let first = handle.commit(vec![worker("p", "a", false)]);
    disk.arrived.recv().unwrap();
    let second = handle.commit(vec![worker("p", "b", false)]);
    let third = handle.commit(vec![worker("p", "c", false)]);
    disk.verdict.send(Err(disk_error())).unwrap();
    assert_eq!(soon(first).await, Err(disk_error()));
    for waiter in [second, third] {
        assert_eq!(soon(waiter).await.unwrap_err().code(), "stopped");
    }
    soon(health.changed()).await.unwrap();
    assert_eq!(*health.borrow(), Err(disk_error()));
    let refused = handle.submit(vec![worker("p", "d", false)]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the store takes no more changes since an earlier error: failed to write: no space; restart the scheduler once the cause is gone"
    );
    // What is there can still be read.
    assert_eq!(soon(handle.jobs(None, 10)).await, Ok(vec![]));
    assert_eq!(soon(writer.close()).await, Err(disk_error()));
    assert_eq!(*disk.batches.lock().unwrap(), [1]);
    assert_eq!(disk.memory.load(0).unwrap().workers, []);
}

#[tokio::test]
async fn closing_writes_what_waits_and_refuses_what_comes() {
    let (store, disk) = slow();
    let (writer, handle) = start(store, WriterConfig::default());
    handle.submit(vec![worker("p", "a", false)]).unwrap();
    disk.arrived.recv().unwrap();
    handle.submit(vec![worker("p", "b", false)]).unwrap();
    let commit = handle.commit(vec![worker("p", "c", false)]);
    for _ in 0..2 {
        disk.verdict.send(Ok(())).unwrap();
    }
    soon(writer.close()).await.unwrap();
    soon(commit).await.unwrap();
    assert_eq!(disk.memory.load(0).unwrap().workers.len(), 3);
    assert_eq!(handle.submit(vec![]), Err(StoreError::Closed));
    assert_eq!(soon(handle.commit(vec![])).await, Err(StoreError::Closed));
    assert_eq!(
        soon(handle.job(JobId::new(1))).await,
        Err(StoreError::Closed)
    );
}

#[tokio::test]
async fn questions_see_everything_queued_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let writer =
        Writer::start(Box::new(common::open(dir.path())), WriterConfig::default()).unwrap();
    let handle = writer.handle();
    for id in 1..=50 {
        handle.submit(vec![recorded(job(id))]).unwrap();
    }
    assert_eq!(
        soon(handle.job(JobId::new(50))).await.unwrap(),
        Some(job(50))
    );
    assert_eq!(soon(handle.jobs(None, 100)).await.unwrap().len(), 50);
    assert_eq!(soon(handle.prune_jobs(0, u64::MAX)).await, Ok(0));
    writer.close().await.unwrap();
    // The directory is free again.
    assert_eq!(common::open(dir.path()).jobs(None, 100).unwrap().len(), 50);
}

#[tokio::test]
async fn without_a_thread_changes_are_made_before_the_call_returns() {
    let writer = Writer::inline(Box::new(MemoryStore::new()));
    let handle = writer.handle();
    handle.submit(vec![recorded(job(1))]).unwrap();
    let never_polled = handle.commit(vec![recorded(job(2))]);
    assert_eq!(handle.jobs(None, 10).await.unwrap().len(), 2);
    drop(never_polled);
    writer.close().await.unwrap();
    assert_eq!(handle.submit(vec![]), Err(StoreError::Closed));
}

#[tokio::test]
async fn job_ids_grow_and_never_repeat_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let store = common::open(dir.path());
        let next = store.load(0).unwrap().next_job_id;
        let writer = Writer::start(Box::new(store), WriterConfig::default()).unwrap();
        let mut ids = JobIds::start(writer.handle(), next).await.unwrap();
        for n in 0..10_000 {
            let id = ids.next_id().unwrap().get();
            assert!(id > last);
            last = id;
            if n % 1000 == 0 {
                // As time passes, the disk answers.
                soon(writer.handle().query(|_| ())).await.unwrap();
            }
        }
        writer.close().await.unwrap();
    }
}

#[tokio::test]
async fn job_ids_run_out_rather_than_being_handed_out_unreserved() {
    let (store, disk) = slow();
    let (writer, handle) = start(store, WriterConfig::default());
    disk.verdict.send(Ok(())).unwrap();
    let mut ids = soon(JobIds::start(handle.clone(), JobId::new(1)))
        .await
        .unwrap();
    // The disk does not answer any more.
    let mut last = JobId::new(0);
    let refused = loop {
        match ids.next_id() {
            Ok(id) => last = id,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), "busy");
    assert_eq!(
        disk.memory.load(0).unwrap().next_job_id.get(),
        last.get() + 1
    );
    disk.verdict.send(Ok(())).unwrap();
    soon(handle.query(|_| ())).await.unwrap();
    assert_eq!(ids.next_id().unwrap().get(), last.get() + 1);
    writer.close().await.unwrap();
}

#[tokio::test]
async fn job_ids_stop_with_the_store() {
    let (store, disk) = slow();
    let (writer, handle) = start(store, WriterConfig::default());
    disk.verdict.send(Ok(())).unwrap();
    let mut ids = soon(JobIds::start(handle.clone(), JobId::new(1)))
        .await
        .unwrap();
    disk.verdict.send(Err(disk_error())).unwrap();
    let failed = soon(handle.commit(vec![worker("p", "w", false)])).await;
    assert_eq!(failed, Err(disk_error()));
    let refused = loop {
        if let Err(error) = ids.next_id() {
            break error;
        }
    };
    assert_eq!(refused.code(), "stopped");
    drop(writer);
}
