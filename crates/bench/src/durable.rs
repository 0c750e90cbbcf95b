//! What durable jobs cost a scheduler: how fast they are accepted, what they take in the queue, and how soon it is back with them.
//!
//! The scheduler is started here, in a directory of its own on a real disk, because it is killed in between.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt as _};
use hdrhistogram::Histogram;
use ocluster_api::extensions_capnp::{submission_endpoint, submit_answer};
use ocluster_api::{Action, JobSpec, TestStep, test_job};
use ocluster_client::{Client, DurableSpec, JobLimits};
use ocluster_vat::{DialOptions, Stats, SturdyRef, Vat};
use serde::Serialize;
use tempfile::TempDir;

use crate::idle::IdleWorker;
use crate::memory::resident_kib;

/// How long a scheduler may take to start.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Jobs in one call while the queue is filled.
const BATCH: u32 = 1000;
/// Calls under way at once meanwhile.
const BATCHES_AT_ONCE: usize = 4;
/// The share of a queue that is there before the memory of the rest is measured.
const BASE: u32 = 1000;

/// What to measure.
#[derive(Debug, Args)]
pub struct DurableArgs {
    /// The scheduler's program.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/release/ocluster-scheduler"
    )]
    scheduler: PathBuf,

    /// Directory for its files, on the disk that is to be measured [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Number of jobs to queue before the scheduler is killed and started again.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    queued: u32,

    /// Submissions under way at once while the rate is measured.
    #[arg(long, value_name = "N", default_value_t = 64)]
    at_once: u32,

    /// For how long the rate, and then the time of acknowledgements at a given rate, are measured.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = ocluster_cli::parse_duration)]
    time: Duration,

    /// Submissions in a second while the time of acknowledgements is measured.
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,

    /// Fail if fewer jobs are accepted in a second.
    #[arg(long, value_name = "N")]
    rate_threshold: Option<f64>,

    /// Fail if one acknowledgement in a hundred takes this long or longer.
    #[arg(long, value_name = "TIME", value_parser = ocluster_cli::parse_duration)]
    ack_threshold: Option<Duration>,

    /// Fail if the first job is given this long, or longer, after the start.
    #[arg(long, value_name = "TIME", value_parser = ocluster_cli::parse_duration)]
    restart_threshold: Option<Duration>,

    /// Fail if a queued job takes this many bytes of the scheduler's memory or more.
    #[arg(long, value_name = "BYTES")]
    memory_threshold: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Durable {
    /// Durable jobs accepted in a second, one call each, every one on disk before its answer.
    pub accepted_per_second: f64,
    /// Acknowledgements at the given rate, in milliseconds: half took less.
    pub ack_median_ms: f64,
    /// All but one in a hundred took less.
    pub ack_p99_ms: f64,
    /// Jobs in the queue when the scheduler was killed.
    pub queued: u32,
    /// Accepted in a second while the queue was filled, a thousand in each call.
    pub many_per_second: f64,
    /// Bytes of the scheduler's memory for each of them, as it was filled.
    pub bytes_per_job: f64,
    /// From the start of the process to the first job given to a worker, in seconds.
    pub first_job_seconds: f64,
    /// Bytes of the scheduler's memory for each of them, after the start.
    pub bytes_per_job_after: f64,
}

impl DurableArgs {
    /// Measures.
    ///
    /// # Errors
    /// If the scheduler does not start, or loses a job.
    pub async fn measure(&self) -> anyhow::Result<Durable> {
        ensure!(self.queued > BASE, "--queued must be more than {BASE}");
        let mut site = Site::new(&self.scheduler, self.directory.as_deref())?;
        site.start()?;
        let client = site.client().await?;
        let accepted_per_second = self.closed_loop(&client).await?;
        let acks = self.open_loop(&client).await?;
        drop(client);
        // With a store and a process of its own, so that what came before takes no part.
        let mut site = Site::new(&self.scheduler, self.directory.as_deref())?;
        site.start()?;
        fill(&site, BASE).await?;
        let before = resident_kib(site.pid()?)?;
        let started = Instant::now();
        fill(&site, self.queued - BASE).await?;
        let filled = started.elapsed();
        let with = resident_kib(site.pid()?)?;
        site.kill()?;
        let started = Instant::now();
        site.start_unwatched()?;
        let pool = site.cap("pool-bench.cap")?;
        IdleWorker::first_job(&pool, START_LIMIT)
            .await
            .context("no job was given after the restart")?;
        let first_job_seconds = started.elapsed().as_secs_f64();
        let after = resident_kib(site.pid()?)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "memory in KiB and milliseconds are far below 2^52"
        )]
        let (per_job, ms) = (
            |kib: u64, jobs: u32| kib as f64 * 1024.0 / f64::from(jobs),
            |micros: u64| micros as f64 / 1000.0,
        );
        Ok(Durable {
            accepted_per_second,
            ack_median_ms: ms(acks.value_at_quantile(0.5)),
            ack_p99_ms: ms(acks.value_at_quantile(0.99)),
            queued: self.queued,
            many_per_second: f64::from(self.queued - BASE) / filled.as_secs_f64(),
            bytes_per_job: per_job(with.saturating_sub(before), self.queued - BASE),
            first_job_seconds,
            bytes_per_job_after: per_job(after.saturating_sub(before), self.queued - BASE),
        })
    }

    /// Whether all figures are good enough.
    #[must_use]
    pub fn are_kept(&self, figures: &Durable) -> bool {
        let below = |figure: f64, most: Option<f64>| most.is_none_or(|most| figure < most);
        self.rate_threshold
            .is_none_or(|least| figures.accepted_per_second >= least)
            && below(
                figures.ack_p99_ms,
                self.ack_threshold.map(|most| most.as_secs_f64() * 1000.0),
            )
            && below(
                figures.first_job_seconds,
                self.restart_threshold.map(|most| most.as_secs_f64()),
            )
            && below(figures.bytes_per_job, self.memory_threshold)
            && below(figures.bytes_per_job_after, self.memory_threshold)
    }

    /// As many as are accepted, with so many under way.
    async fn closed_loop(&self, client: &Client) -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut under_way = FuturesUnordered::new();
        let (mut number, mut accepted) = (0, 0u32);
        while started.elapsed() < self.time {
            while under_way.len() < self.at_once as usize {
                under_way.push(submit(client, "closed", number));
                number += 1;
            }
            if let Some(answer) = under_way.next().await {
                answer?;
                accepted += 1;
            }
        }
        let rate = f64::from(accepted) / started.elapsed().as_secs_f64();
        while let Some(answer) = under_way.next().await {
            answer?;
        }
        Ok(rate)
    }

    /// At the given rate, whatever the answers take: the times count from when a submission was due.
    async fn open_loop(&self, client: &Client) -> anyhow::Result<Histogram<u64>> {
        let mut micros = Histogram::<u64>::new(3)?;
        let interval = Duration::from_secs(1) / self.rate.max(1);
        let mut ticks = tokio::time::interval(interval);
        let started = Instant::now();
        let mut under_way = FuturesUnordered::new();
        let mut number = 0;
        while started.elapsed() < self.time {
            tokio::select! {
                due = ticks.tick() => {
                    let due = due.into_std();
                    under_way.push(async move {
                        submit(client, "open", number).await?;
                        anyhow::Ok(due.elapsed())
                    });
                    number += 1;
                }
                Some(taken) = under_way.next() => micros.record(u64::try_from(taken?.as_micros())?)?,
            }
        }
        while let Some(taken) = under_way.next().await {
            micros.record(u64::try_from(taken?.as_micros())?)?;
        }
        Ok(micros)
    }
}

/// A job as people submit them: a specification of some hundred bytes, one of a few hints, a key.
fn spec(number: u32) -> anyhow::Result<JobSpec> {
    Ok(JobSpec {
        action: Action::Custom(test_job(&[TestStep::Print("x".repeat(200))])?),
        cache_hint: format!("hint-{}", number % 100),
        source: None,
        secrets: Vec::new(),
    })
}

async fn submit(client: &Client, kind: &str, number: u32) -> anyhow::Result<()> {
    let job = client
        .submit_durable(&DurableSpec {
            pool: "bench".to_owned(),
            job: spec(number)?,
            urgent: false,
            key: format!("{kind}-{number}"),
            limits: JobLimits::default(),
        })
        .await?;
    ensure!(!job.known(), "job {} was there before", job.id());
    Ok(())
}

/// Queues so many jobs, a thousand in each call.
async fn fill(site: &Site, jobs: u32) -> anyhow::Result<()> {
    let cap = site.cap("submit-bench.cap")?;
    let vat = Vat::client_only(Stats::new());
    let connection = vat
        .connect(&cap.address, &DialOptions::default(), &mut |_| {})
        .await?;
    let endpoint: submission_endpoint::Client = connection.bootstrap(&cap.id);
    let mut under_way = FuturesUnordered::new();
    let mut left = jobs;
    while left > 0 || !under_way.is_empty() {
        while left > 0 && under_way.len() < BATCHES_AT_ONCE {
            let count = left.min(BATCH);
            left -= count;
            let mut request = endpoint.submit_many_request();
            let mut list = request.get().init_jobs(count);
            for index in 0..count {
                let mut job = list.reborrow().get(index);
                job.set_pool("bench");
                spec(index)?.write(job.init_descr())?;
            }
            under_way.push(request.send().promise);
        }
        if let Some(answer) = under_way.next().await {
            let answer = answer?;
            for one in answer.get()?.get_answers()? {
                if let submit_answer::Refused(why) = one.which()? {
                    bail!("a job was refused: {}", why?.to_str()?);
                }
            }
        }
    }
    connection.disconnect("The measurement is over");
    Ok(())
}

/// A scheduler with files of its own. It is killed when this is dropped.
struct Site {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Site {
    fn new(program: &std::path::Path, directory: Option<&std::path::Path>) -> anyhow::Result<Self> {
        let directory = match directory {
            Some(directory) => TempDir::new_in(directory)?,
            None => tempfile::tempdir()?,
        };
        std::fs::create_dir(directory.path().join("secrets"))?;
        // A free port: taken again by the scheduler right away.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        Ok(Self {
            program: program.to_owned(),
            directory,
            port,
            process: None,
        })
    }

    fn start_unwatched(&mut self) -> anyhow::Result<()> {
        let path = |name: &str| self.directory.path().join(name);
        let log = std::fs::File::create(path("log"))?;
        let process = Command::new(&self.program)
            .arg("--capnp-secret-key-file")
            .arg(path("key"))
            .arg(format!(
                "--capnp-listen-address=tcp:127.0.0.1:{}",
                self.port
            ))
            .arg("--secrets-dir")
            .arg(path("secrets"))
            .arg("--state-dir")
            .arg(path("state"))
            .args([
                "--pools=bench",
                "--default-clients=bench",
                "--export-every=0s",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it and waits until it listens.
    fn start(&mut self) -> anyhow::Result<()> {
        self.start_unwatched()?;
        let started = Instant::now();
        let last = self.directory.path().join("secrets/pool-bench.cap");
        while !last.exists() {
            let ended = match &mut self.process {
                Some(process) => process.try_wait()?,
                None => None,
            };
            if ended.is_some() || started.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(self.directory.path().join("log"))?;
                bail!("the scheduler does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    fn pid(&self) -> anyhow::Result<u32> {
        let process = self
            .process
            .as_ref()
            .context("the scheduler was not started")?;
        Ok(process.id())
    }

    fn cap(&self, name: &str) -> anyhow::Result<SturdyRef> {
        Ok(SturdyRef::load(
            &self.directory.path().join("secrets").join(name),
        )?)
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let cap = self.cap("submit-bench.cap")?;
        let vat = Vat::client_only(Stats::new());
        Ok(Client::connect(&vat, &cap, &DialOptions::default()).await?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.kill());
    }
}
