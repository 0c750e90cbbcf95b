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
use ocluster_client::{Client, FollowError, Job, RpcError};
use ocluster_vat::{Connection, ConnectionOptions, DialOptions, Digest, PeerInfo, Stats, Vat};

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

async fn submit(scheduler: &Scheduler, scene: &str) -> Job {
    let vat = Vat::client_only(Stats::new());
    let client = Client::connect(&vat, &scheduler.server.cap, &DialOptions::default())
        .await
        .unwrap();
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
