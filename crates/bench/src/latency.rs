//! How long a job takes that does nothing: one client, one job at a time.

use std::time::Instant;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use ocluster_api::{Action, JobSpec, TestStep, test_job};
use ocluster_client::Client;
use ocluster_vat::{DialOptions, Stats, SturdyRef, Vat};
use serde::Serialize;

/// Jobs that are not counted: connections, caches and code get warm.
const WARM_UP: u32 = 20;

/// What was measured, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Number of jobs.
    pub jobs: u32,
    /// Half of them took less.
    pub median_ms: f64,
    /// Nine in ten took less.
    pub p90_ms: f64,
    /// All but one in a hundred took less.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Runs `jobs` test jobs without steps, one after the other, each until its result and the end of its log are here.
///
/// # Errors
/// If the cluster cannot be reached, or a job fails.
pub async fn measure(cap: &SturdyRef, pool: &str, jobs: u32) -> anyhow::Result<Latency> {
    if jobs == 0 {
        bail!("--jobs must be at least 1");
    }
    let vat = Vat::client_only(Stats::new());
    let connection = vat
        .connect(&cap.address, &DialOptions::default(), &mut |_| {})
        .await?;
    let client = Client::over(connection, cap);
    let spec = JobSpec {
        action: Action::Custom(test_job(&[] as &[TestStep])?),
        cache_hint: "bench-latency".to_owned(),
        source: None,
        secrets: Vec::new(),
    };
    let mut micros = Histogram::<u64>::new(3)?;
    for number in 0..WARM_UP + jobs {
        let started = Instant::now();
        run_one(&client, pool, &spec).await?;
        if number >= WARM_UP {
            micros.record(u64::try_from(started.elapsed().as_micros())?)?;
        }
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of one job are far below 2^52"
    )]
    let ms = |micros: u64| micros as f64 / 1000.0;
    Ok(Latency {
        jobs,
        median_ms: ms(micros.value_at_quantile(0.5)),
        p90_ms: ms(micros.value_at_quantile(0.9)),
        p99_ms: ms(micros.value_at_quantile(0.99)),
        max_ms: ms(micros.max()),
    })
}

async fn run_one(client: &Client, pool: &str, spec: &JobSpec) -> anyhow::Result<()> {
    let job = client.submit(pool, spec, false)?;
    let read_log = async {
        let mut log = std::pin::pin!(job.log(0));
        while let Some(chunk) = log.next().await {
            chunk?;
        }
        anyhow::Ok(())
    };
    let (log, result) = tokio::join!(read_log, job.result());
    log.context("cannot read a job's log")?;
    result.context("a no-op job failed: does a worker of the pool run with --allow-test-jobs?")?;
    Ok(())
}
