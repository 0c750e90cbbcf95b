//! The measurement: who does what when, and the figures.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use ocluster_vat::SturdyRef;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::crowd::{Client, PLATFORMS};
use crate::load::{Fleet, FleetPlan, JobTime, thread};
use crate::memory::{processor_time, resident_kib};

/// How many jobs each of the workers runs at once: 352 together, as in OCluster's own stress program.
const CAPACITIES: [u32; 5] = [32, 64, 64, 64, 128];
/// Packages among which the urgent client chooses.
const URGENT_PACKAGES: u32 = 300;
/// How often it has a batch, one job for each platform.
const URGENT_EVERY: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pool's registration.
    pub workers: SturdyRef,
    /// The client that submits everything at once.
    pub health: SturdyRef,
    /// The client with urgent jobs, which should have a high rate.
    pub urgent: SturdyRef,
    /// The pool's name.
    pub pool: String,
    /// The scheduler's process.
    pub pid: u32,
    /// How many jobs to submit at once.
    pub jobs: u32,
    /// How long a job takes on a worker that does not know its hint.
    pub build_time: Duration,
    /// Ask for the log and the result of each job while it is queued, as OCluster's command-line client does.
    pub ask_ahead: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Stress {
    /// Jobs submitted at once.
    pub jobs: u32,
    /// Jobs that workers can run at once.
    pub slots: u32,
    /// Time until all submissions were answered, in seconds.
    pub accept_seconds: f64,
    /// Jobs that were queued then.
    pub queued: u32,
    /// Resident memory of the scheduler before the first job, in KiB.
    pub rss_before_kib: u64,
    /// The same when all submissions were answered.
    pub rss_queued_kib: u64,
    /// The difference for each queued job, in KiB.
    pub kib_per_queued_job: f64,
    /// Urgent jobs that ran meanwhile.
    pub urgent_jobs: u32,
    /// Half of them waited less from submission to start, in milliseconds. The wait for a free slot is part of it.
    pub urgent_median_ms: f64,
    /// All but one in a hundred waited less.
    pub urgent_p99_ms: f64,
    /// The longest wait.
    pub urgent_max_ms: f64,
    /// Time until everything was done, in seconds.
    pub total_seconds: f64,
    /// Jobs of both clients per second.
    pub jobs_per_second: f64,
    /// Processor time of the scheduler for each job, in milliseconds.
    pub scheduler_ms_per_job: f64,
}

/// Runs the plan to its end.
///
/// # Errors
/// If somebody cannot connect, a job fails, or the scheduler's process cannot be looked at.
pub async fn measure(plan: &Plan) -> anyhow::Result<Stress> {
    if plan.jobs < PLATFORMS {
        bail!("--jobs must be at least {PLATFORMS}");
    }
    let mut fleet = Fleet::join(
        plan.workers.clone(),
        FleetPlan {
            name: "build".to_owned(),
            capacities: CAPACITIES.to_vec(),
            job_time: Some(JobTime::Build(plan.build_time.as_secs_f64() * 1000.0)),
            log_bytes: 0,
        },
    )
    .await?;
    tokio::select! {
        measured = submit_all(plan) => {
            let measured = measured?;
            fleet.leave().await?;
            Ok(measured)
        }
        error = fleet.lost() => Err(error),
    }
}

async fn submit_all(plan: &Plan) -> anyhow::Result<Stress> {
    let mut health = Client::connect(&plan.health, &plan.pool, false, plan.ask_ahead).await?;
    // A first batch, so that what is needed once is not counted.
    for platform in 0..PLATFORMS {
        health.submit(0, platform);
    }
    health.all_ended().await.context("the first jobs failed")?;
    let counts = health.counts();
    let (submitted_before, started_before) = (counts.submitted.get(), counts.started.get());
    let rss_before_kib = resident_kib(plan.pid)?;
    let processor_before = processor_time(plan.pid)?;

    let started = Instant::now();
    let enough = CancellationToken::new();
    // Whatever happens, the other thread ends with this function.
    let _enough = enough.clone().drop_guard();
    let batches = {
        let (plan, stop) = (plan.clone(), enough.clone());
        thread::spawn("urgent", async move || submit_batches(&plan, &stop).await)?
    };
    for number in 0..plan.jobs {
        health.submit(URGENT_PACKAGES + number / PLATFORMS, number % PLATFORMS);
    }
    health.all_accepted().await?;
    let accept_seconds = started.elapsed().as_secs_f64();
    let queued = (counts.submitted.get() - submitted_before)
        .saturating_sub(counts.started.get() - started_before);
    let rss_queued_kib = resident_kib(plan.pid)?;
    health.all_ended().await?;
    enough.cancel();
    let waits = batches.await?;
    let total_seconds = started.elapsed().as_secs_f64();
    let processor = processor_time(plan.pid)?.saturating_sub(processor_before);

    let mut micros = Histogram::<u64>::new(3)?;
    for wait in &waits {
        micros.record(u64::try_from(wait.as_micros())?)?;
    }
    let urgent_jobs = u32::try_from(waits.len())?;
    let all = f64::from(plan.jobs) + f64::from(urgent_jobs);
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory in KiB and waits in microseconds are far below 2^52"
    )]
    let (grown, ms) = (
        rss_queued_kib.saturating_sub(rss_before_kib) as f64,
        |micros: u64| micros as f64 / 1000.0,
    );
    Ok(Stress {
        jobs: plan.jobs,
        slots: CAPACITIES.iter().sum(),
        accept_seconds,
        queued,
        rss_before_kib,
        rss_queued_kib,
        kib_per_queued_job: grown / f64::from(queued.max(1)),
        urgent_jobs,
        urgent_median_ms: ms(micros.value_at_quantile(0.5)),
        urgent_p99_ms: ms(micros.value_at_quantile(0.99)),
        urgent_max_ms: ms(micros.max()),
        total_seconds,
        jobs_per_second: all / total_seconds,
        scheduler_ms_per_job: processor.as_secs_f64() * 1000.0 / all,
    })
}

/// Submits a batch of urgent jobs again and again, and gives how long each waited for a worker.
async fn submit_batches(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::connect(&plan.urgent, &plan.pool, true, plan.ask_ahead).await?;
    let mut ticks = tokio::time::interval(URGENT_EVERY);
    let mut package = 0;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // A walk through all of them in a fixed order that looks like none.
        package = (package + 113) % URGENT_PACKAGES;
        for platform in 0..PLATFORMS {
            client.submit(package, platform);
        }
    }
    client.all_ended().await?;
    Ok(client.counts().waits.take())
}
