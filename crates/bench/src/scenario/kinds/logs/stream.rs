//! One job that streams a log to one client, through the scheduler and through a plain relay in turns.

use anyhow::ensure;
use ocluster_api::cluster_capnp::submission;
use ocluster_vat::{DialOptions, Stats, Vat, settled};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::pattern::LONGEST;
use super::source::{Print, Source, follow};
use crate::load::thread;
use crate::meter::{Medians, Meter};
use crate::scenario::kinds::relay::{Relay, Way};
use crate::scenario::{FigureKind, Figures, Lab, Measure};

/// Bytes of a MiB.
pub(super) const MIB: u64 = 1 << 20;

/// How much.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogStream {
    /// Size of the log, in MiB.
    mib: u32,
    /// KiB in one answer of the worker; workers of ours give up to 128.
    chunk_kib: u32,
    /// Pairs of streams.
    pairs: u32,
}

impl Measure for LogStream {
    const NAME: &'static str = "log-stream";

    const FIGURES: &'static [FigureKind] = &[
        FigureKind::new("of_relay", "x"),
        FigureKind::new("mib_per_second", "MiB/s"),
        FigureKind::new("relay_mib_per_second", "MiB/s"),
        FigureKind::new("scheduler_us_per_mib", "us"),
        FigureKind::new("relay_us_per_mib", "us"),
        FigureKind::new("driver_us_per_mib", "us"),
    ];

    async fn measure(&self, lab: &Lab) -> anyhow::Result<Figures> {
        let go = CancellationToken::new();
        go.cancel();
        let print = Print::new(self.mib, self.chunk_kib, go)?;
        let site = lab.scheduler().await?;
        let _source = Source::join(&site.registration()?, &print).await?;
        let cap = site.submission(0)?;
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let submission: submission::Client = connection.bootstrap(&cap.id);
        let directory = lab.directory()?;
        let relay = Relay::start(directory.path()).await?;
        let mut medians = Medians::default();
        let mib = f64::from(self.mib);
        for pair in 0..self.pairs {
            let ours = async {
                let meter = Meter::start(site.pid()?)?;
                stream(&submission, site.pool(), &print).await?;
                meter.read()
            };
            let theirs = async {
                let meter = Meter::start(relay.pid()?)?;
                send(relay.way(), &print).await?;
                meter.read()
            };
            let (ours, theirs) = if pair % 2 == 0 {
                let ours = ours.await?;
                (ours, theirs.await?)
            } else {
                let theirs = theirs.await?;
                (ours.await?, theirs)
            };
            medians.add(
                "of_relay",
                theirs.time.as_secs_f64() / ours.time.as_secs_f64(),
            );
            medians.add("mib_per_second", ours.per_second(mib));
            medians.add("relay_mib_per_second", theirs.per_second(mib));
            medians.add("scheduler_us_per_mib", ours.scheduler_us(mib));
            medians.add("relay_us_per_mib", theirs.scheduler_us(mib));
            medians.add("driver_us_per_mib", ours.driver_us(mib));
        }
        connection.disconnect("The measurement is over");
        let mut figures = Figures::default();
        medians.give(&mut figures)?;
        Ok(figures)
    }
}

/// Runs a job, and reads its log to the end.
async fn stream(submission: &submission::Client, pool: &str, print: &Print) -> anyhow::Result<()> {
    let mut request = submission.submit_request();
    request.get().set_pool(pool);
    let ticket = request.send().pipeline.get_ticket();
    let answer = ticket.job_request().send().promise.await?;
    let job = answer.get()?.get_job()?;
    settled(&job.client).await?;
    follow(&job, print).await?;
    job.result_request().send().promise.await?;
    Ok(())
}

/// Sends as much through the relay, from a thread of its own as a worker's is, and compares what arrives.
async fn send(way: Way, print: &Print) -> anyhow::Result<()> {
    let (connected, ready) = oneshot::channel();
    let source = {
        let (way, print) = (way.clone(), print.clone());
        thread::spawn("relay-source", async move || {
            let mut end = way.connect().await?;
            // Whoever waited for it may have given up.
            let _ = connected.send(());
            let mut place = 0;
            while place < print.bytes {
                let left = usize::try_from(print.bytes - place)?;
                let piece = print.pattern.piece(place, left.min(print.chunk));
                end.write_all(piece).await?;
                place += piece.len() as u64;
            }
            Ok(end.shutdown().await?)
        })?
    };
    let sink = async {
        // The source is who connects first. If it does not, it says why.
        if ready.await.is_err() {
            return Ok(());
        }
        let mut end = way.connect().await?;
        let mut buffer = vec![0; LONGEST];
        let mut place = 0;
        loop {
            let count = end.read(&mut buffer).await?;
            let piece = buffer.get(..count).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            print.pattern.check(place, piece)?;
            place += piece.len() as u64;
        }
        ensure!(place == print.bytes, "the relay lost a part");
        Ok(())
    };
    tokio::try_join!(source, sink)?;
    Ok(())
}
