//! Clients that submit jobs as fast as they can write, and take note of when what happens.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ocluster_api::cluster_capnp::submission;
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat, settled};
use tokio::task::JoinSet;

/// Operating systems and architectures that each package is built on.
pub(super) const PLATFORMS: u32 = 7;

/// What is built, some four hundred bytes of it, which is little for a real job.
const DOCKERFILE: &str = "FROM ocaml/opam:debian-12-ocaml-5.2@sha256:0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9\n\
    USER opam\nWORKDIR /src\nRUN sudo apt-get update && opam-2.2 update --all\nRUN opam-2.2 pin add --no-action --yes .\n\
    RUN opam-2.2 install --yes --deps-only --with-test .\nCOPY --chown=opam . /src\nRUN opam-2.2 exec -- dune build @install @runtest\n";

/// A client with a connection of its own.
pub(super) struct Client {
    submission: submission::Client,
    connection: Connection,
    pool: String,
    urgent: bool,
    ask_ahead: bool,
    /// All jobs, until they have ended.
    jobs: JoinSet<anyhow::Result<()>>,
    counts: Rc<Counts>,
}

/// How far a client's jobs are.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) submitted: Cell<u32>,
    pub(super) accepted: Cell<u32>,
    pub(super) started: Cell<u32>,
    /// From the submission to the start, of each job that has started.
    pub(super) waits: RefCell<Vec<Duration>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.disconnect("The measurement is over");
    }
}

impl Client {
    /// Connects. With `ask_ahead`, the log and the result of each job are asked for while it is queued.
    pub(super) async fn connect(
        cap: &SturdyRef,
        pool: &str,
        urgent: bool,
        ask_ahead: bool,
    ) -> anyhow::Result<Self> {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        Ok(Self {
            submission: connection.bootstrap(&cap.id),
            connection,
            pool: pool.to_owned(),
            urgent,
            ask_ahead,
            jobs: JoinSet::new(),
            counts: Rc::default(),
        })
    }

    /// How far its jobs are.
    pub(super) fn counts(&self) -> Rc<Counts> {
        self.counts.clone()
    }

    /// Submits the job of one package on one platform, without waiting for anything.
    pub(super) fn submit(&mut self, package: u32, platform: u32) {
        let mut request = self.submission.submit_request();
        let mut params = request.get();
        params.set_pool(&self.pool);
        params.set_urgent(self.urgent);
        let mut descr = params.init_descr();
        descr.set_cache_hint(format!(
            "6f1e2d3c-package-{package}.1.0.0-platform-{platform}"
        ));
        let docker = descr.init_action().init_docker_build();
        docker.init_dockerfile().set_contents(DOCKERFILE);
        let at = Instant::now();
        let submitted = request.send();
        let ticket = submitted.pipeline.get_ticket();
        let asked = ticket.job_request().send();
        let ahead = self.ask_ahead.then(|| {
            let job = asked.pipeline.get_job();
            (job.log_request().send(), job.result_request().send())
        });
        let counts = self.counts.clone();
        counts.submitted.set(counts.submitted.get() + 1);
        self.jobs.spawn_local(async move {
            submitted.promise.await.context("a job was not accepted")?;
            counts.accepted.set(counts.accepted.get() + 1);
            let job = asked.promise.await.context("a job was refused")?;
            let job = job.get()?.get_job()?;
            settled(&job.client).await?;
            counts.started.set(counts.started.get() + 1);
            counts.waits.borrow_mut().push(at.elapsed());
            drop(ticket);
            let result = match ahead {
                Some((log, result)) => {
                    log.promise.await.context("a job's log was lost")?;
                    result
                }
                None => job.result_request().send(),
            };
            result.promise.await.context("a job failed")?;
            Ok(())
        });
    }

    /// Waits until all jobs that were submitted have been accepted.
    pub(super) async fn all_accepted(&mut self) -> anyhow::Result<()> {
        while self.counts.accepted.get() < self.counts.submitted.get() {
            tokio::select! {
                Some(ended) = self.jobs.join_next() => ended??,
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
        Ok(())
    }

    /// Waits until all jobs that were submitted have ended.
    pub(super) async fn all_ended(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.jobs.join_next().await {
            ended??;
        }
        Ok(())
    }
}
