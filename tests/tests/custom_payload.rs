//! Custom jobs whose payload is a structure of its own, on their way from the client library by a real scheduler to an executor of
//! the worker library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ocluster_api::cluster_capnp::job_descr;
use ocluster_client::{
    Action, Client, CustomJob, DialOptions, GitSource, JobSpec, Secret, SecretBytes, Stats,
    SturdyRef, Vat,
};
use ocluster_tests::{Cluster, SOON, Story};
use ocluster_worker::{Config, Execution, Executor, Executors, JobContext, Outcome};
use tokio_util::sync::CancellationToken;

/// Hands every job it gets to the test.
struct Witness(mpsc::SyncSender<CustomJob>);

impl Executor for Witness {
    fn execute<'a>(&'a self, job: JobContext<'a>) -> Execution<'a> {
        let job = job.custom_job().unwrap().clone();
        self.0.send(job).unwrap();
        Box::pin(std::future::ready(Outcome::Succeeded {
            output: "seen".to_owned(),
        }))
    }

    fn wants_directories(&self, _: &JobSpec) -> bool {
        false
    }
}

/// A structure with structures, lists and bytes in it: the description of another job.
fn nested() -> JobSpec {
    JobSpec {
        cache_hint: "a hint inside".to_owned(),
        source: Some(GitSource {
            repository: "https://example.org/inside.git".to_owned(),
            commits: vec!["ab".repeat(20), "cd".repeat(20)],
        }),
        secrets: vec![Secret {
            id: "token".to_owned(),
            value: SecretBytes::new(vec![0, 159, 146, 150]),
        }],
        ..JobSpec::new(Action::Custom(
            CustomJob::with_text("deeper", "((from busybox))").unwrap(),
        ))
    }
}

/// Runs `work` with a worker whose executor for the kind `witnessed` is `witness`, on this thread.
fn with_worker(
    cap: PathBuf,
    state_dir: PathBuf,
    witness: Witness,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let config = Config {
            executors: Executors::default().offering("witnessed", witness),
            ..Config::new(SturdyRef::load(&cap)?, "witness", state_dir)
        };
        let shutdown = CancellationToken::new();
        let worker = tokio::task::spawn_local(ocluster_worker::run(config, shutdown.clone()));
        tokio::time::timeout(SOON, work).await??;
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), worker).await???;
        Ok(())
    })
}

#[test]
fn a_payload_of_nested_structures_arrives_intact() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let cap = SturdyRef::load(cluster.add_client("alice")?.cap())?;
        let (sender, seen) = mpsc::sync_channel(1);
        let submit = async {
            let vat = Vat::client_only(Stats::new());
            let client = Client::connect(&vat, &cap, &DialOptions::default()).await?;
            let inside = nested().to_descriptor()?;
            let message = inside.message();
            let payload = message.get()?;
            let job = CustomJob::new("witnessed", |mut root| root.set_as(payload))?;
            let job = client.submit("linux", &JobSpec::new(Action::Custom(job)), false)?;
            assert_eq!(job.result().await?, "seen");
            Ok(())
        };
        with_worker(
            cluster.secret("pool-linux.cap"),
            story.scratch.join("witness"),
            Witness(sender),
            submit,
        )?;
        let seen = seen.try_recv().context("the executor saw no job")?;
        assert_eq!(seen.kind, "witnessed");
        let payload = seen.payload()?;
        let inside: job_descr::Reader<'_> = payload.get_root()?;
        assert_eq!(JobSpec::read(inside)?, nested());
        Ok(())
    })
}
