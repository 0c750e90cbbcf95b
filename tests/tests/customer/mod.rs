//! Someone who submits durable jobs of the kind `test` by the client library, and does not give up when the connection is lost: every
//! call is made again until the scheduler has answered, or a deadline has passed.
//!
//! Never believes what it is told twice: what a log said once must be said again.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use ocluster_api::{TestStep, test_job};
use ocluster_client::{
    Action, Client, DialOptions, DurableSpec, JobInfo, JobLimits, JobQuery, JobSpec, RpcError,
    Stats, SturdyRef, SubmitError, Vat,
};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// How long a customer asks for one thing.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a customer waits before asking again.
const PAUSE: Duration = Duration::from_millis(50);

/// A client of the cluster, on the thread that made it.
pub(crate) struct Customer {
    runtime: Runtime,
    local: LocalSet,
    vat: Vat,
    cap: SturdyRef,
}

impl Customer {
    /// One who has the cap in this file.
    pub(crate) fn with(cap: &Path) -> Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            local: LocalSet::new(),
            vat: Vat::client_only(Stats::new()),
            cap: SturdyRef::load(cap)?,
        })
    }

    /// Submits a job that does `steps`, and gives its id. The key sees to it that there is one such job, however often that takes.
    pub(crate) fn submit(&self, key: &str, hint: &str, steps: &[TestStep]) -> Result<String> {
        let mut job = JobSpec::new(Action::Custom(test_job(steps)?));
        hint.clone_into(&mut job.cache_hint);
        let spec = DurableSpec {
            pool: "linux".to_owned(),
            job,
            urgent: false,
            key: key.to_owned(),
            limits: JobLimits::default(),
        };
        self.patiently(
            &format!("{key} to be accepted"),
            async |client| match client.submit_durable(&spec).await {
                Ok(job) => Ok(job.id().to_owned()),
                Err(SubmitError::Rpc(error)) => Err(error),
                Err(other) => Err(RpcError::Failed(other.to_string())),
            },
        )
    }

    /// What is known of a job.
    pub(crate) fn info(&self, id: &str) -> Result<JobInfo> {
        self.patiently(&format!("the record of {id}"), async |client| {
            client.find(id).await?.info().await
        })
    }

    /// Waits until a job has ended.
    pub(crate) fn ended(&self, id: &str) -> Result<JobInfo> {
        self.patiently(&format!("{id} to end"), async |client| {
            client.find(id).await?.ended().await
        })
    }

    /// Cancels a job. Whether it is that which ended it shows in its record.
    pub(crate) fn stop(&self, id: &str, reason: &str) -> Result<()> {
        self.patiently(&format!("{id} to be cancelled"), async |client| {
            match client.find(id).await?.stop(reason).await {
                // It was over already, possibly because the answer to the call before was lost.
                Err(RpcError::Failed(words)) if words.contains("is over") => Ok(()),
                other => other,
            }
        })
    }

    /// A job's whole log, read as it comes, and on from the byte where a lost connection has left it.
    pub(crate) fn log(&self, id: &str) -> Result<Vec<u8>> {
        let mut log = Vec::new();
        self.patiently(&format!("the log of {id}"), async |client| {
            let job = client.find(id).await?;
            let mut pieces = std::pin::pin!(job.log(log.len() as u64));
            while let Some(piece) = pieces.next().await {
                log.extend_from_slice(&piece?);
            }
            Ok(())
        })?;
        Ok(log)
    }

    /// All jobs of this client's, newest first.
    pub(crate) fn all(&self) -> Result<Vec<JobInfo>> {
        let mut all: Vec<JobInfo> = Vec::new();
        loop {
            let query = JobQuery {
                before: all.last().map(|job| job.id.clone()),
                ..JobQuery::default()
            };
            let page =
                self.patiently("the list of jobs", async |client| client.list(&query).await)?;
            let is_last = page.more.is_none();
            ensure!(is_last || !page.jobs.is_empty(), "an empty page, and more");
            all.extend(page.jobs);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Makes a call until it is answered. A refusal is an answer.
    fn patiently<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(&Client) -> Result<T, RpcError>,
    ) -> Result<T> {
        let start = Instant::now();
        let asking = async {
            loop {
                let connected =
                    Client::connect(&self.vat, &self.cap, &DialOptions::default()).await;
                let lost = match connected {
                    Ok(client) => match call(&client).await {
                        Ok(value) => return Ok(value),
                        Err(RpcError::Disconnected(reason)) => reason,
                        Err(refused) => bail!("waiting for {what}: {refused}"),
                    },
                    Err(error) => error.to_string(),
                };
                if start.elapsed() > PATIENCE {
                    bail!("no answer: {lost}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let limited = async { tokio::time::timeout(PATIENCE, asking).await };
        self.local
            .block_on(&self.runtime, limited)
            .with_context(|| format!("waited {} s in vain for {what}", PATIENCE.as_secs()))?
            .with_context(|| format!("waiting for {what}"))
    }
}

/// What a step list writes into a job's log, on a worker of this name, up to the worker's last word about the job.
pub(crate) fn output(worker: &str, steps: &[TestStep]) -> Vec<u8> {
    let mut log = format!("Building on {worker}\n").into_bytes();
    for step in steps {
        match step {
            TestStep::Print(text) => log.extend(format!("{text}\n").bytes()),
            TestStep::FloodBytes(bytes) => {
                let line = [&[b'#'; 63][..], b"\n"].concat();
                log.extend(line.iter().cycle().take(*bytes as usize));
            }
            TestStep::Exit(0) => break,
            TestStep::Exit(code) => {
                log.extend(format!("test job exited with code {code}\n").bytes());
                return log;
            }
            TestStep::SleepMs(_) => {}
            TestStep::Hang => return log,
            TestStep::FailSetup(reason) => {
                log.extend(format!("{reason}\n").bytes());
                return log;
            }
        }
    }
    log.extend(b"Job succeeded\n");
    log
}

/// `count` numbered lines, one after each pause.
pub(crate) fn counting(name: &str, count: u32, pause: Duration) -> Vec<TestStep> {
    let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    (0..count)
        .flat_map(|number| {
            [
                TestStep::Print(format!("{name} says {number}")),
                TestStep::SleepMs(pause),
            ]
        })
        .collect()
}

/// The log in the parts which the attempts wrote: each with the worker it ran on and its bytes, the scheduler's own words at its end
/// included.
pub(crate) fn parts<'a>(job: &JobInfo, log: &'a [u8]) -> Result<Vec<(String, &'a [u8])>> {
    let mut begins: Vec<(String, u64)> = job
        .attempts
        .iter()
        .map(|attempt| (attempt.worker.clone(), attempt.log_start))
        .collect();
    if job.attempts.len() < job.attempt as usize {
        let worker = job.worker.clone().context("an attempt without a worker")?;
        begins.push((worker, job.log_start));
    }
    let mut parts = Vec::new();
    let mut end = log.len();
    for (worker, begin) in begins.into_iter().rev() {
        let begin = usize::try_from(begin)?;
        let part = log
            .get(begin..end)
            .with_context(|| format!("an attempt begins at byte {begin}, and the next at {end}"))?;
        parts.push((worker, part));
        end = begin;
    }
    ensure!(
        end == 0 || parts.is_empty(),
        "the first attempt begins at byte {end}"
    );
    parts.reverse();
    Ok(parts)
}

/// How much of `part` is what `whole` begins with.
pub(crate) fn common(part: &[u8], whole: &[u8]) -> usize {
    part.iter().zip(whole).take_while(|(a, b)| a == b).count()
}
