//! A worker whose jobs print as fast as they are asked to, and the reading of such a log.

use std::rc::Rc;

use anyhow::{Context as _, ensure};
use ocluster_api::cluster_capnp::{job, queue};
use ocluster_vat::SturdyRef;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pattern::{LONGEST, Pattern};
use super::stream::MIB;
use crate::load::{register, thread};

/// What each job prints.
#[derive(Clone)]
pub(super) struct Print {
    pub(super) pattern: Pattern,
    pub(super) bytes: u64,
    /// Bytes in one answer.
    pub(super) chunk: usize,
    /// Nothing is printed before this.
    pub(super) go: CancellationToken,
}

impl Print {
    /// A log of so many MiB, in answers of so many KiB each.
    ///
    /// # Errors
    /// If an answer can not be that large.
    pub(super) fn new(mib: u32, chunk_kib: u32, go: CancellationToken) -> anyhow::Result<Self> {
        let chunk = usize::try_from(chunk_kib)? * 1024;
        ensure!(
            (1..=LONGEST).contains(&chunk),
            "chunk_kib must be from 1 to {}",
            LONGEST / 1024
        );
        Ok(Self {
            pattern: Pattern::new(),
            bytes: u64::from(mib) * MIB,
            chunk,
            go,
        })
    }
}

/// A worker on a thread of its own, which runs one job after another. It leaves when this is dropped.
pub(super) struct Source(
    #[expect(dead_code, reason = "what counts is that it is dropped")] DropGuard,
);

impl Source {
    /// Joins the pool.
    ///
    /// # Errors
    /// If it cannot.
    pub(super) async fn join(pool: &SturdyRef, print: &Print) -> anyhow::Result<Self> {
        let stay = CancellationToken::new();
        let (joined, ready) = oneshot::channel();
        let working = {
            let (pool, print, stay) = (pool.clone(), print.clone(), stay.clone());
            thread::spawn("log-source", async move || {
                let (connection, queue) = register(&pool, "log-source", 1)
                    .await
                    .context("cannot register the worker")?;
                // Whoever waited for it may have been told to stop.
                let _ = joined.send(());
                let ended = tokio::select! {
                    ended = work(&queue, &print) => ended,
                    () = stay.cancelled() => Ok(()),
                };
                connection.disconnect("The measurement is over");
                Ok(ended?)
            })?
        };
        let stay = stay.drop_guard();
        tokio::select! {
            biased;
            Ok(()) = ready => Ok(Self(stay)),
            ended = working => {
                ended?;
                anyhow::bail!("the worker left at once")
            }
        }
    }
}

async fn work(queue: &queue::Client, print: &Print) -> capnp::Result<()> {
    loop {
        let printed = CancellationToken::new();
        let job = Printing {
            print: print.clone(),
            printed: printed.clone(),
        };
        let mut request = queue.pop_request();
        request.get().set_job(capnp_rpc::new_client(job));
        request.send().promise.await?;
        printed.cancelled().await;
    }
}

/// A job that ends when all it had to print was read.
struct Printing {
    print: Print,
    printed: CancellationToken,
}

impl job::Server for Printing {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        self.print.go.cancelled().await;
        let place = u64::try_from(params.get()?.get_start()).unwrap_or(0);
        let left = self.print.bytes.saturating_sub(place);
        let length =
            usize::try_from(left).map_or(self.print.chunk, |left| left.min(self.print.chunk));
        let piece = self.print.pattern.piece(place, length);
        let mut results = results.get();
        results.set_log(piece);
        results.set_next(i64::try_from(place + piece.len() as u64).unwrap_or(i64::MAX));
        if piece.is_empty() {
            self.printed.cancel();
        }
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        self.printed.cancelled().await;
        results.get().set_output("");
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        Ok(())
    }
}

/// Reads a whole log, piece by piece as OCluster's clients do, and compares it.
///
/// # Errors
/// If it is not what was printed.
pub(super) async fn follow(job: &job::Client, print: &Print) -> anyhow::Result<()> {
    let mut place = 0;
    loop {
        let mut request = job.log_request();
        request.get().set_start(i64::try_from(place)?);
        let answer = request.send().promise.await?;
        let answer = answer.get()?;
        let piece = answer.get_log()?;
        if piece.is_empty() {
            break;
        }
        print.pattern.check(place, piece)?;
        place += piece.len() as u64;
        ensure!(
            u64::try_from(answer.get_next())? == place,
            "the log goes on at a wrong place"
        );
    }
    ensure!(
        place == print.bytes,
        "the log has {place} bytes, and {} were printed",
        print.bytes
    );
    Ok(())
}
