//! A client of durable jobs: submits them one by one or a thousand in a call, and hears how they ended.
//!
//! The jobs are as people's: a specification of some hundred bytes, one of a hundred hints, and a key where they are submitted one by
//! one, as our own client gives them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::stream::{FuturesUnordered, StreamExt as _};
use ocluster_api::extensions_capnp::{durable_job, submission_endpoint, submit_answer};
use ocluster_api::{Action, JobSpec, TestStep, test_job};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};

/// The most jobs that one call takes.
pub(crate) const BATCH: u32 = 1000;
/// Calls under way at once while a queue is filled.
const BATCHES_AT_ONCE: usize = 4;
/// Different cache hints.
const HINTS: u32 = 100;

/// A client with a connection of its own, which is closed when this is dropped.
pub(crate) struct DurableClient {
    endpoint: submission_endpoint::Client,
    connection: Connection,
    pool: String,
    specs: Vec<JobSpec>,
}

/// How long a job took, counted from its submission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Until it was acknowledged.
    pub(crate) accepted: Duration,
    /// Until its client was told that it had passed.
    pub(crate) ended: Duration,
}

impl Drop for DurableClient {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl DurableClient {
    /// Connects as the client to whom `cap` belongs.
    ///
    /// # Errors
    /// If nobody answers.
    pub(crate) async fn connect(cap: &SturdyRef, pool: &str) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let action = Action::Custom(test_job(&[TestStep::Print("x".repeat(200))])?);
        let specs = (0..HINTS).map(|number| JobSpec {
            action: action.clone(),
            cache_hint: format!("hint-{number}"),
            source: None,
            secrets: Vec::new(),
        });
        Ok(Self {
            endpoint: connection.bootstrap(&cap.id),
            connection,
            pool: pool.to_owned(),
            specs: specs.collect(),
        })
    }

    /// Submits a job under a key, and gives how long that took.
    ///
    /// # Errors
    /// If it is refused, or was there before.
    pub(crate) async fn submit(&self, key: &str, number: u32) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut request = self.endpoint.submit_job_request();
        self.describe(request.get().init_job(), number, key)?;
        accepted(request.send().promise.await)?;
        Ok(started.elapsed())
    }

    /// Submits a job under a key, and waits until it has passed.
    ///
    /// # Errors
    /// If it is refused, was there before, or does not pass.
    pub(crate) async fn run(&self, key: &str, number: u32) -> anyhow::Result<Taken> {
        let started = Instant::now();
        let mut request = self.endpoint.submit_job_request();
        self.describe(request.get().init_job(), number, key)?;
        let submitted = request.send();
        let ended = submitted.pipeline.get_handle().ended_request().send();
        accepted(submitted.promise.await)?;
        let accepted = started.elapsed();
        let answer = ended.promise.await.context("a job was lost")?;
        let info = answer.get()?.get_info()?;
        let state = info.get_state()?.to_str()?;
        ensure!(state == "passed", "a no-op job ended as {state}");
        Ok(Taken {
            accepted,
            ended: started.elapsed(),
        })
    }

    /// Queues so many jobs, a thousand in each call, with several calls under way.
    ///
    /// # Errors
    /// If one is refused.
    pub(crate) async fn fill(&self, jobs: u32) -> anyhow::Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut left = jobs;
        while left > 0 || !under_way.is_empty() {
            while left > 0 && under_way.len() < BATCHES_AT_ONCE {
                let count = left.min(BATCH);
                left -= count;
                under_way.push(self.submit_many(count));
            }
            under_way.next().await.transpose()?;
        }
        Ok(())
    }

    async fn submit_many(&self, count: u32) -> anyhow::Result<()> {
        let mut request = self.endpoint.submit_many_request();
        let mut list = request.get().init_jobs(count);
        for index in 0..count {
            self.describe(list.reborrow().get(index), index, "")?;
        }
        let answer = request.send().promise.await?;
        let answers = answer.get()?.get_answers()?;
        ensure!(answers.len() == count, "some jobs were not answered for");
        for one in answers {
            if let submit_answer::Refused(why) = one.which()? {
                bail!("a job was refused: {}", why?.to_str()?);
            }
        }
        Ok(())
    }

    /// How many jobs of this client have not ended, a thousand standing for all that are more.
    ///
    /// # Errors
    /// If the scheduler does not tell.
    pub(crate) async fn open_jobs(&self) -> anyhow::Result<u32> {
        let mut request = self.endpoint.list_request();
        let mut query = request.get().init_query();
        query.set_limit(1000);
        let mut states = query.init_states(2);
        states.set(0, "queued");
        states.set(1, "running");
        let answer = request.send().promise.await?;
        Ok(answer.get()?.get_jobs()?.len())
    }

    fn describe(
        &self,
        mut job: durable_job::Builder<'_>,
        number: u32,
        key: &str,
    ) -> anyhow::Result<()> {
        job.set_pool(&self.pool);
        job.set_key(key);
        let hint = usize::try_from(number % HINTS)?;
        let spec = self.specs.get(hint).context("no such hint")?;
        spec.write(job.init_descr())?;
        Ok(())
    }
}

type Answer = capnp::capability::Response<submission_endpoint::submit_job_results::Owned>;

fn accepted(answer: capnp::Result<Answer>) -> anyhow::Result<()> {
    let answer = answer.context("a job was refused")?;
    let answer = answer.get()?;
    ensure!(
        !answer.get_known(),
        "the job {} was there before: use a fresh scheduler",
        answer.get_id()?.to_str()?
    );
    Ok(())
}
