//! What the stories about stores share.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use ocluster_store::{
    Change, JobId, JobKind, JobRecord, JobState, SledOptions, SledStore, StoreError,
};

pub(crate) fn open(dir: &Path) -> SledStore {
    try_open(dir).unwrap()
}

pub(crate) fn try_open(dir: &Path) -> Result<SledStore, StoreError> {
    SledStore::open(dir, SledOptions::default())
}

pub(crate) fn worker(pool: &str, name: &str, paused: bool) -> Change {
    Change::WorkerKnown {
        pool: pool.to_owned(),
        name: name.to_owned(),
        paused,
        pause: None,
    }
}

pub(crate) fn hint(hint: &str, worker: &str, day: u32) -> Change {
    Change::HintCached {
        pool: "p".to_owned(),
        hint: hint.to_owned(),
        worker: worker.to_owned(),
        day,
    }
}

pub(crate) fn rate(pool: &str, client: &str, rate: f64) -> Change {
    Change::RateSet {
        pool: pool.to_owned(),
        client: client.to_owned(),
        rate,
    }
}

pub(crate) fn client(name: &str, hash: u8) -> Change {
    Change::ClientAdded {
        hash: [hash; 32],
        client: name.to_owned(),
        created_day: 20_000,
    }
}

/// A job that was submitted at `id` seconds.
pub(crate) fn job(id: u64) -> JobRecord {
    JobRecord::queued(JobId::new(id), "p", "alice", JobKind::Docker, id * 1000)
}

/// A job that ended at `ended` milliseconds.
pub(crate) fn ended(id: u64, ended: u64) -> JobRecord {
    let mut job = job(id);
    job.state = JobState::Passed;
    job.times.ended = Some(ended);
    job
}

/// A durable job with its description.
pub(crate) fn accepted(id: u64) -> Change {
    Change::JobAccepted {
        record: Box::new(durable(id)),
        description: sealed(id),
    }
}

/// What [`accepted`] seals.
pub(crate) fn sealed(id: u64) -> Vec<u8> {
    format!("sealed description of {id}").into_bytes()
}

/// The record of a durable job.
pub(crate) fn durable(id: u64) -> JobRecord {
    JobRecord {
        durable: true,
        ..job(id)
    }
}

/// The same record with a key of the client's.
pub(crate) fn keyed(record: JobRecord, key: &str) -> JobRecord {
    JobRecord {
        key: Some(key.to_owned()),
        ..record
    }
}

pub(crate) fn debt(pool: &str, client: &str, next_fair_start: f64) -> Change {
    Change::DebtSet {
        pool: pool.to_owned(),
        client: client.to_owned(),
        next_fair_start,
    }
}

pub(crate) fn recorded(job: JobRecord) -> Change {
    Change::JobRecorded(Box::new(job))
}

/// What should not hang fails instead.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}
