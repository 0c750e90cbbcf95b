//! The client library, used as another program would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::future::Future;
use std::time::Duration;

use futures::TryStreamExt as _;
use ocluster_api::{Action, JobSpec};
use ocluster_client::{
    Client, DurableSpec, Features, FollowError, Job, JobLimits, JobQuery, JobState, RpcError,
    SturdyRef, SubmitError,
};
use ocluster_vat::{Connection, ConnectionOptions, DialOptions, Digest, PeerInfo, Stats, Vat};

use support::durable::Keeper;
use support::{Event, Scheduler};

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let test = async {
        tokio::time::timeout(Duration::from_secs(30), test)
            .await
            .expect("the test takes too long")
    };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn spec() -> JobSpec {
    JobSpec {
        action: Action::OBuilder {
            spec: "((from busybox))".into(),
        },
        cache_hint: "hint".into(),
        source: None,
        secrets: vec![],
    }
}

async fn connect(cap: &SturdyRef) -> Client {
    let vat = Vat::client_only(Stats::new());
    Client::connect(&vat, cap, &DialOptions::default())
        .await
        .unwrap()
}

fn durable(pool: &str, key: &str) -> DurableSpec {
    DurableSpec {
        pool: pool.to_owned(),
        job: spec(),
        urgent: false,
        key: key.to_owned(),
        limits: JobLimits::default(),
    }
}

async fn submit(scheduler: &Scheduler, scene: &str) -> Job {
    let client = connect(&scheduler.server.cap).await;
    client.submit(scene, &spec(), true).unwrap()
}

#[test]
fn a_job_is_submitted_followed_and_ends() {
    let scheduler = Scheduler::start();
    local(async {
        let job = submit(&scheduler, "linux").await;
        job.started().await.unwrap();
        let mut log = Vec::new();
        let length = job.follow_into(&mut log).await.unwrap();
        assert_eq!(length, log.len() as u64);
        assert!(log.ends_with(b"Job succeeded\n"));
        assert_eq!(job.result().await, Ok(String::new()));
    });
    assert_eq!(
        scheduler.next_event(),
        Event::Submitted("linux".into(), true, Box::new(spec()))
    );
}

#[test]
fn the_log_is_a_stream_of_pieces() {
    let scheduler = Scheduler::start();
    local(async {
        let pieces: Vec<_> = submit(&scheduler, "linux")
            .await
            .log(0)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0], b"Building on worker-1\n"[..]);
    });
}

#[test]
fn a_refused_job_says_why_in_every_way() {
    let scheduler = Scheduler::start();
    local(async {
        let job = submit(&scheduler, "nope").await;
        let expected = RpcError::Failed("Pool ID \"nope\" not one of {arm, linux}".into());
        assert_eq!(job.started().await, Err(expected.clone()));
        assert_eq!(job.result().await, Err(expected.clone()));
        let Err(FollowError::Log(error)) = job.follow_into(&mut Vec::new()).await else {
            panic!()
        };
        assert_eq!(error, expected);
    });
}

#[test]
fn a_running_job_can_be_cancelled() {
    let scheduler = Scheduler::start();
    local(async {
        let job = submit(&scheduler, "running").await;
        job.started().await.unwrap();
        job.cancel().await.unwrap();
    });
    assert!(matches!(scheduler.next_event(), Event::Submitted(..)));
    assert_eq!(scheduler.next_event(), Event::Cancelled);
}

#[test]
fn a_scheduler_that_goes_silent_is_given_up() {
    // Given a connection whose other end takes everything and says nothing,
    // It takes as long as it takes users: a connection measures silence by the clock on the wall.
    local(async {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let peer = PeerInfo::local("a standstill", Digest::Insecure);
        let connection = Connection::from_stream(ours, peer, ConnectionOptions::dialled());
        let cap = "capnp://insecure@127.0.0.1:1/c2VjcmV0".parse().unwrap();
        let client = Client::over(connection, &cap);
        // when a job waits for it,
        let waiting = async {
            client
                .submit("linux", &spec(), false)
                .unwrap()
                .result()
                .await
        };
        let result = tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("it was waited for too long");
        // then the job hears that it is gone.
        assert!(result.unwrap_err().is_disconnected());
        drop(theirs);
    });
}

#[test]
fn a_scheduler_that_knows_no_features_has_none() {
    let scheduler = Scheduler::start();
    local(async {
        let client = connect(&scheduler.server.cap).await;
        assert_eq!(client.features().await, Ok(Features::default()));
        let refused = client.submit_durable(&durable("linux", "")).await;
        assert!(matches!(
            refused.err(),
            Some(SubmitError::Rpc(RpcError::Unimplemented(_)))
        ));
    });
}

#[test]
fn a_durable_job_is_submitted_once_for_each_key_and_found_again() {
    let keeper = Keeper::start();
    local(async {
        let client = connect(&keeper.cap).await;
        let features = client.features().await.unwrap();
        assert!(features.durable_jobs() && features.time_limits());
        let job = client
            .submit_durable(&durable("held", "key"))
            .await
            .unwrap();
        assert_eq!((job.id(), job.known()), ("j1x", false));
        let again = client
            .submit_durable(&durable("held", "key"))
            .await
            .unwrap();
        assert_eq!((again.id(), again.known()), ("j1x", true));
        // Nobody refers to it any more, over no connection.
        drop((job, again, client));
        let client = connect(&keeper.cap).await;
        let job = client.find("j1").await.unwrap();
        keeper.print("j1x", b"one, two, three");
        keeper.end("j1x", "passed");
        let rest: Vec<_> = job.log(5).try_collect().await.unwrap();
        assert_eq!(rest.concat(), b"two, three");
        let ended = job.ended().await.unwrap();
        assert!(ended.has_passed() && ended.durable);
        assert_eq!(job.result().await, Ok(String::new()));
        let unknown = client.find("j2").await.err().unwrap();
        assert!(unknown.reason().contains("there is no job"), "{unknown}");
    });
}

#[test]
fn a_durable_job_is_stopped_and_explained() {
    let keeper = Keeper::start();
    local(async {
        let client = connect(&keeper.cap).await;
        let job = client.submit_durable(&durable("held", "")).await.unwrap();
        let explanation = job.explain().await.unwrap();
        assert_eq!(explanation.details.len(), 2);
        assert_eq!(explanation.job.state, JobState::Queued);
        job.stop("enough").await.unwrap();
        assert_eq!(job.info().await.unwrap().state, JobState::Cancelled);
        assert_eq!(keeper.jobs()[0].stopped, ["enough"]);
        assert!(job.stop("again").await.is_err());
    });
}

#[test]
fn jobs_are_listed_in_pages_and_watched() {
    let keeper = Keeper::start();
    local(async {
        let client = connect(&keeper.cap).await;
        for pool in ["linux", "held", "linux"] {
            client.submit_durable(&durable(pool, "")).await.unwrap();
        }
        let mut query = JobQuery {
            limit: 1,
            states: vec![JobState::Passed],
            pool: Some("linux".to_owned()),
            ..JobQuery::default()
        };
        let first = client.list(&query).await.unwrap();
        assert_eq!((first.jobs.len(), first.more.as_deref()), (1, Some("j3x")));
        query.before = first.more;
        let second = client.list(&query).await.unwrap();
        assert_eq!((second.jobs[0].id.as_str(), second.more), ("j1x", None));

        let all = JobQuery::default();
        let now = client.watch(&all, 0).await.unwrap();
        assert!(now.jobs.is_empty() && !now.missed);
        let changes = client.watch(&all, now.cursor).await.unwrap();
        assert_eq!((changes.jobs.len(), changes.missed), (3, false));
        assert!(client.watch(&all, changes.cursor).await.unwrap().missed);
    });
}
