//! One job's log to many clients at once, each with a connection of its own: what the scheduler's memory grows by, and how fast it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use capnp::capability::FromClientHook as _;
use futures::future::try_join_all;
use ocluster_api::cluster_capnp::{job, submission};
use ocluster_api::extensions_capnp::submission_endpoint;
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat, settled};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::source::{Print, Source, follow};
use crate::memory::resident_kib;
use crate::meter::Meter;
use crate::scenario::{FigureKind, Figures, Lab, Measure};

/// How often the scheduler's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How much.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFanOut {
    /// Size of the log, in MiB.
    mib: u32,
    /// KiB in one answer of the worker.
    chunk_kib: u32,
    /// Clients that read it.
    clients: u32,
}

impl Measure for LogFanOut {
    const NAME: &'static str = "log-fan-out";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("growth_mib", "MiB"),
        FigureKind::new("mib_per_second", "MiB/s"),
        FigureKind::new("scheduler_us_per_mib", "us"),
        FigureKind::new("driver_us_per_mib", "us"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let print = Print::new(self.mib, self.chunk_kib, CancellationToken::new())?;
        let site = lab.scheduler().await?;
        let _source = Source::join(&site.registration()?, &print).await?;
        let cap = site.submission(0)?;
        let first = Reader::connect(&cap).await?;
        let submission: submission::Client = first.endpoint.clone().cast_to();
        let mut request = submission.submit_request();
        request.get().set_pool(site.pool());
        let ticket = request.send().pipeline.get_ticket();
        let answer = ticket.job_request().send().promise.await?;
        let job = answer.get()?.get_job()?;
        settled(&job.client).await?;
        let id = first.only_job().await?;
        let mut readers = Vec::new();
        for _ in 0..self.clients {
            let reader = Reader::connect(&cap).await?;
            let job = reader.find(&id).await?;
            readers.push((reader, job));
        }
        let before = resident_kib(site.pid()?)?;
        let peak = Peak::watch(site.pid()?)?;
        let meter = Meter::start(site.pid()?)?;
        print.go.cancel();
        try_join_all(readers.iter().map(|(_, job)| follow(job, &print))).await?;
        let spent = meter.read()?;
        let grown = peak.kib().saturating_sub(before);
        let read = f64::from(self.mib) * f64::from(self.clients);
        let mut figures = Figures::default();
        #[expect(
            clippy::cast_precision_loss,
            reason = "memory in KiB is far below 2^52"
        )]
        figures.add("growth_mib", grown as f64 / 1024.0);
        figures.add("mib_per_second", spent.per_second(read));
        figures.add("scheduler_us_per_mib", spent.scheduler_us(read));
        figures.add("driver_us_per_mib", spent.driver_us(read));
        Ok(figures)
    }
}

/// A client with a connection of its own, which is closed when this is dropped.
struct Reader {
    endpoint: submission_endpoint::Client,
    connection: Connection,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl Reader {
    async fn connect(cap: &SturdyRef) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        Ok(Self {
            endpoint: connection.bootstrap(&cap.id),
            connection,
        })
    }

    /// The id of the one job there is.
    async fn only_job(&self) -> anyhow::Result<String> {
        let answer = self.endpoint.list_request().send().promise.await?;
        let jobs = answer.get()?.get_jobs()?;
        ensure!(
            jobs.len() == 1,
            "use a client of its own: it has {} jobs",
            jobs.len()
        );
        Ok(jobs.get(0).get_id()?.to_string()?)
    }

    async fn find(&self, id: &str) -> anyhow::Result<job::Client> {
        let mut request = self.endpoint.find_request();
        request.get().set_id(id);
        let answer = request.send().promise.await;
        let answer = answer.context("a job cannot be found by its id")?;
        Ok(answer.get()?.get_handle()?.cast_to())
    }
}

/// Looks at a process's memory again and again, from a thread of its own that ends when this is dropped.
struct Peak {
    kib: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Peak {
    fn watch(pid: u32) -> anyhow::Result<Self> {
        let (kib, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let watch = {
            let (kib, over) = (kib.clone(), over.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    // A process that has gone needs no more.
                    kib.fetch_max(resident_kib(pid).unwrap_or(0), Ordering::Relaxed);
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        };
        std::thread::Builder::new()
            .name("memory".to_owned())
            .spawn(watch)
            .context("cannot start a thread")?;
        Ok(Self { kib, over })
    }

    fn kib(&self) -> u64 {
        self.kib.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
