//! Simulated clients: each has a connection of its own, submits jobs at a pace, and follows each to its end as OCluster's own client
//! does: ticket, job, the whole log, the result.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use capnp::capability::RemotePromise;
use futures::future::LocalBoxFuture;
use hdrhistogram::Histogram;
use ocluster_api::cluster_capnp::submission;
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat, settled};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::thread;

/// The most jobs of one client that may be under way at a given rate: beyond that, the scheduler does not keep up.
const MAX_UNDER_WAY: usize = 100_000;

/// How jobs follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each client has so many under way, and submits the next when one ends.
    Closed(u32),
    /// Each client submits so many in a second, whatever becomes of them. Latencies count from when a job was due.
    Open(f64),
    /// Each client submits so many at once, and that is all.
    AtOnce(u32),
}

/// What clients to have.
#[derive(Clone, Debug)]
pub struct CrowdPlan {
    /// The pool's name.
    pub pool: String,
    /// A capability for each client.
    pub caps: Vec<SturdyRef>,
    /// How jobs follow each other.
    pub pace: Pace,
    /// Among how many cache hints they are divided; none if 0.
    pub hints: u32,
    /// How large the description of a job is, in bytes, more or less.
    pub descr_bytes: usize,
    /// Ask for log and result while a job is queued, as OCluster's command-line client does, instead of when it has started, as its
    /// stress program does.
    pub ask_ahead: bool,
    /// Take note of how long jobs take from the beginning, and not only once [`Tally::record`] says so.
    pub record: bool,
}

/// How far the jobs of all clients are. Numbers only grow.
#[derive(Debug, Default)]
pub struct Tally {
    submitted: AtomicU64,
    accepted: AtomicU64,
    ended: AtomicU64,
    recording: AtomicBool,
}

impl Tally {
    /// Submitted, whether or not that was answered.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
    }

    /// Those of them that the scheduler has answered with a ticket.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Those of which the result and the end of the log are here.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// From now on, take note of how long jobs take, or no longer.
    pub fn record(&self, recording: bool) {
        self.recording.store(recording, Ordering::Relaxed);
    }
}

/// Clients at work, on a thread of their own. When this is dropped they leave at once, whatever becomes of their jobs.
pub struct Crowd {
    tally: Arc<Tally>,
    running: LocalBoxFuture<'static, anyhow::Result<Histogram<u64>>>,
    stop: DropGuard,
    leave: DropGuard,
}

impl Crowd {
    /// Connects all clients, and has them begin.
    ///
    /// # Errors
    /// If one of them cannot connect.
    pub async fn start(plan: CrowdPlan) -> anyhow::Result<Self> {
        let (stop, leave) = (CancellationToken::new(), CancellationToken::new());
        let (stopping, leaving) = (stop.clone().drop_guard(), leave.clone().drop_guard());
        let tally = Arc::new(Tally::default());
        tally.record(plan.record);
        let (connected, ready) = oneshot::channel();
        let running = {
            let tally = tally.clone();
            thread::spawn("clients", async move || {
                let mut clients = Vec::new();
                for cap in &plan.caps {
                    let client = Client::connect(cap, &plan, &tally, &stop);
                    clients.push(Rc::new(client.await?));
                }
                let _ = connected.send(());
                tokio::select! {
                    ended = run(clients, plan.pace) => ended,
                    () = leave.cancelled() => bail!("the clients were sent away"),
                }
            })?
        };
        let mut running: LocalBoxFuture<'static, _> = Box::pin(running);
        tokio::select! {
            biased;
            Ok(()) = ready => {}
            ended = &mut running => drop(ended?),
        }
        Ok(Self {
            tally,
            running,
            stop: stopping,
            leave: leaving,
        })
    }

    /// How far the jobs are.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Waits until the clients have nothing more to do. At a closed or open pace that is never, unless a job fails. Cancel safe.
    ///
    /// # Errors
    /// If a job failed, or a connection was lost.
    pub async fn ended(&mut self) -> anyhow::Result<Histogram<u64>> {
        (&mut self.running).await
    }

    /// Has the clients submit nothing more, and waits for the end of all their jobs. Gives how long those took that ended while that
    /// was recorded, in microseconds.
    ///
    /// # Errors
    /// If a job failed, or a connection was lost.
    pub async fn stop(self) -> anyhow::Result<Histogram<u64>> {
        drop(self.stop);
        let ended = self.running.await;
        drop(self.leave);
        ended
    }
}

async fn run(clients: Vec<Rc<Client>>, pace: Pace) -> anyhow::Result<Histogram<u64>> {
    let mut tasks = JoinSet::new();
    for client in clients {
        match pace {
            Pace::Closed(in_flight) => {
                for place in 0..in_flight {
                    tasks.spawn_local(client.clone().one_after_the_other(place, in_flight));
                }
            }
            Pace::Open(per_second) => {
                tasks.spawn_local(client.at_a_rate(per_second));
            }
            Pace::AtOnce(jobs) => {
                tasks.spawn_local(client.at_once(jobs));
            }
        }
    }
    let mut all = histogram()?;
    while let Some(ended) = tasks.join_next().await {
        all.add(ended??)?;
    }
    Ok(all)
}

/// Times in microseconds, with three digits.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

struct Client {
    submission: submission::Client,
    connection: Connection,
    pool: String,
    hints: u32,
    description: String,
    ask_ahead: bool,
    tally: Arc<Tally>,
    stop: CancellationToken,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl Client {
    async fn connect(
        cap: &SturdyRef,
        plan: &CrowdPlan,
        tally: &Arc<Tally>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        Ok(Self {
            submission: connection.bootstrap(&cap.id),
            connection,
            pool: plan.pool.clone(),
            hints: plan.hints,
            description: "#".repeat(plan.descr_bytes),
            ask_ahead: plan.ask_ahead,
            tally: tally.clone(),
            stop: stop.clone(),
        })
    }

    async fn one_after_the_other(
        self: Rc<Self>,
        place: u32,
        step: u32,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut micros = histogram()?;
        let mut number = place;
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            self.run_one(number).await?;
            self.note(&mut micros, started)?;
            number = number.wrapping_add(step);
        }
        Ok(micros)
    }

    async fn at_a_rate(self: Rc<Self>, per_second: f64) -> anyhow::Result<Histogram<u64>> {
        let mut micros = histogram()?;
        let mut ticks = tokio::time::interval(Duration::try_from_secs_f64(1.0 / per_second)?);
        let mut under_way = JoinSet::new();
        let mut number = 0;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                due = ticks.tick() => {
                    if under_way.len() >= MAX_UNDER_WAY {
                        bail!("the scheduler does not keep up: {MAX_UNDER_WAY} jobs of one client are under way");
                    }
                    under_way.spawn_local(self.clone().due(number, due.into_std()));
                    number = number.wrapping_add(1);
                }
                Some(ended) = under_way.join_next() => self.note(&mut micros, ended??)?,
            }
        }
        while let Some(ended) = under_way.join_next().await {
            self.note(&mut micros, ended??)?;
        }
        Ok(micros)
    }

    async fn at_once(self: Rc<Self>, jobs: u32) -> anyhow::Result<Histogram<u64>> {
        let mut micros = histogram()?;
        let mut under_way = JoinSet::new();
        let started = Instant::now();
        for number in 0..jobs {
            under_way.spawn_local(self.clone().due(number, started));
        }
        while let Some(ended) = under_way.join_next().await {
            self.note(&mut micros, ended??)?;
        }
        Ok(micros)
    }

    async fn due(self: Rc<Self>, number: u32, since: Instant) -> anyhow::Result<Instant> {
        self.run_one(number).await?;
        Ok(since)
    }

    fn note(&self, micros: &mut Histogram<u64>, since: Instant) -> anyhow::Result<()> {
        if self.tally.recording.load(Ordering::Relaxed) {
            micros.record(u64::try_from(since.elapsed().as_micros())?)?;
        }
        Ok(())
    }

    /// One job, from its submission to its result and the end of its log.
    async fn run_one(&self, number: u32) -> anyhow::Result<()> {
        let mut request = self.submission.submit_request();
        let mut params = request.get();
        params.set_pool(&self.pool);
        let mut descr = params.init_descr();
        if self.hints > 0 {
            descr.set_cache_hint(format!("bench-hint-{}", number % self.hints));
        }
        let docker = descr.init_action().init_docker_build();
        docker.init_dockerfile().set_contents(&self.description);
        // The answers are not kept longer than needed: each takes memory at both ends until then.
        let RemotePromise {
            promise: submitted,
            pipeline,
        } = request.send();
        self.tally.submitted.fetch_add(1, Ordering::Relaxed);
        let ticket = pipeline.get_ticket();
        drop(pipeline);
        let RemotePromise {
            promise: asked,
            pipeline,
        } = ticket.job_request().send();
        let accepted = async {
            submitted.await.context("a job was not accepted")?;
            self.tally.accepted.fetch_add(1, Ordering::Relaxed);
            anyhow::Ok(())
        };
        let (job, log, result) = if self.ask_ahead {
            let job = pipeline.get_job();
            drop(pipeline);
            let (log, result) = (job.log_request().send(), job.result_request().send());
            accepted.await?;
            drop(asked.await.context("a job was refused")?);
            (job, log, result)
        } else {
            drop(pipeline);
            accepted.await?;
            let job = asked.await.context("a job was refused")?.get()?.get_job()?;
            settled(&job.client).await?;
            let (log, result) = (job.log_request().send(), job.result_request().send());
            (job, log, result)
        };
        let mut log = log.promise;
        loop {
            let answer = log.await.context("a job's log was lost")?;
            let answer = answer.get()?;
            if answer.get_log()?.is_empty() {
                break;
            }
            let mut more = job.log_request();
            more.get().set_start(answer.get_next());
            log = more.send().promise;
        }
        result.promise.await.context("a job failed")?;
        self.tally.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
