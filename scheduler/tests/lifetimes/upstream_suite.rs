//! OCluster's own integration tests of its scheduler, under their names. As there, none may make the scheduler complain, but for the
//! one that is about a complaint.

use std::future::Future;

use ocluster_api::cluster_capnp::o_builder;
use ocluster_vat::{Connection, Digest, PeerInfo};

use crate::support::client::{self, follow, result, whole_log};
use crate::support::site::{Site, set_active, workers};
use crate::support::warnings::Warnings;
use crate::support::worker::{FakeWorker, Traits};
use crate::support::{self, POOL, eventually, kind_and_reason};

use super::operations::{self, Reports};

/// Runs a test in which the scheduler has nothing to complain about.
fn story<F: Future<Output = ()>>(test: F) {
    story_with_warnings(&[], test);
}

/// Runs a test in which the scheduler warns of exactly this.
fn story_with_warnings<F: Future<Output = ()>>(expected: &[&str], test: F) {
    support::story(async {
        let warnings = Warnings::listen();
        test.await;
        assert_eq!(warnings.heard(), expected);
    });
}

#[test]
fn simple() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let given = worker.next().await;
        given.write(&format!("Building {}\n", given.what));
        given.succeed("");
        assert_eq!(
            whole_log(&job.job).await,
            "Building on worker-1\nBuilding example\nJob succeeded\n"
        );
        assert_eq!(result(&job.job).await, Ok(String::new()));
    });
}

#[test]
fn simple_custom() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let client = scheduler.client().await;
        let job = client.submit_to(POOL, |descr| {
            let mut custom = descr.init_action().init_custom();
            custom.set_kind("obuilder");
            let mut payload: o_builder::Builder<'_> = custom.init_payload().init_as();
            payload.set_spec("((from busybox))");
        });
        let given = worker.next().await;
        assert_eq!(given.what, "obuilder:((from busybox))");
        given.write(&format!("Building {}\n", given.what));
        given.succeed("");
        assert_eq!(
            whole_log(&job.job).await,
            "Building on worker-1\nBuilding obuilder:((from busybox))\nJob succeeded\n"
        );
        assert_eq!(result(&job.job).await, Ok(String::new()));
    });
}

#[test]
fn fails() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let job = scheduler.client().await.submit("example");
        worker
            .next()
            .await
            .fail("Docker build exited with status 1\n");
        assert_eq!(
            whole_log(&job.job).await,
            "Building on worker-1\nDocker build exited with status 1\n"
        );
        assert_eq!(
            result(&job.job).await,
            Err("Failed: Build failed".to_owned())
        );
    });
}

#[test]
fn await_builder() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let log = client::read_at(&job.job, 0);
        let mut worker = scheduler.worker("worker-1").await;
        worker.next().await.succeed("");
        let (first, _) = log.await.unwrap();
        assert!(first.starts_with("Building on worker-1\n"), "{first}");
        assert_eq!(
            whole_log(&job.job).await,
            "Building on worker-1\nJob succeeded\n"
        );
        assert_eq!(result(&job.job).await, Ok(String::new()));
    });
}

#[test]
fn already_registered() {
    story_with_warnings(&["Worker \"worker-1\" already registered!"], async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let second = scheduler.try_worker("worker-1");
        let refused = second.await.err();
        assert_eq!(
            refused.as_deref(),
            Some("Failed: Worker already registered!")
        );
        let job = scheduler.client().await.submit("example");
        worker.next().await.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
    });
}

#[test]
fn builder_capacity() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler
            .worker_with("worker-1", 2, Traits::default())
            .await;
        let client = scheduler.client().await;
        let jobs = ["one", "two", "three"].map(|what| client.submit(what));
        let (one, two) = (worker.next().await, worker.next().await);
        // Once it answers this, it would have asked for a third job if it had a slot.
        worker.set_active(true).await;
        assert!(worker.given_now().is_none(), "more jobs than slots");
        two.write("Building two\n");
        two.succeed("");
        let three = worker.next().await;
        three.write("Building three\n");
        three.succeed("");
        one.write("Building one\n");
        one.succeed("");
        for (job, what) in jobs.iter().zip(["one", "two", "three"]) {
            assert_eq!(
                whole_log(&job.job).await,
                format!("Building on worker-1\nBuilding {what}\nJob succeeded\n")
            );
            assert_eq!(result(&job.job).await, Ok(String::new()));
        }
    });
}

/// The worker's bytes pass through a pipe in memory.
#[test]
fn network() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let (near, mut far) = tokio::io::duplex(1024);
        let mut socket = tokio::net::TcpStream::connect(scheduler.socket())
            .await
            .unwrap();
        let pumping = tokio::task::spawn_local(async move {
            tokio::io::copy_bidirectional(&mut far, &mut socket).await
        });
        let connection = Connection::from_stream(
            near,
            PeerInfo::local("pipe", Digest::Insecure),
            ocluster_vat::ConnectionOptions::dialled(),
        );
        let mut worker = FakeWorker::join(
            connection,
            &scheduler.pool_id(),
            "worker-1",
            1,
            Traits::default(),
        )
        .await
        .unwrap();
        let job = scheduler.client().await.submit("example");
        worker.next().await.succeed("done");
        assert_eq!(result(&job.job).await, Ok("done".to_owned()));
        worker.vanish().await;
        pumping.await.unwrap().unwrap();
    });
}

#[test]
fn worker_disconnects() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let client = scheduler.client().await;
        let first = client.submit("first");
        worker.next().await.succeed("");
        assert_eq!(result(&first.job).await, Ok(String::new()));
        worker.vanish().await;
        let second = client.submit("second");
        let mut worker = eventually("the name is free", async || {
            scheduler.try_worker("worker-1").await.ok()
        })
        .await;
        worker.next().await.succeed("");
        assert_eq!(
            whole_log(&second.job).await,
            "Building on worker-1\nJob succeeded\n"
        );
        assert_eq!(result(&second.job).await, Ok(String::new()));
    });
}

#[test]
fn client_disconnects() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let given = worker.next().await;
        let (line, next) = client::read_at(&job.job, 0).await.unwrap();
        assert_eq!(line, "Building on worker-1\n");
        let more = client::read_at(&job.job, next);
        client.connection.disconnect("Connection closed");
        assert_eq!(
            more.await,
            Err("Disconnected: Connection closed".to_owned())
        );
        given.build.cancelled.cancelled().await;
    });
}

#[test]
fn cancel() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let job = scheduler.client().await.submit("example");
        let log = follow(&job.job);
        let given = worker.next().await;
        let outcome = result(&job.job);
        assert_eq!(client::cancel(&job.job).await, Ok(()));
        assert_eq!(
            log.await,
            ("Building on worker-1\nJob cancelled\n".to_owned(), None)
        );
        assert_eq!(outcome.await, Err("Failed: Build cancelled".to_owned()));
        assert_eq!(given.build.cancel_calls.get(), 1);
    });
}

#[test]
fn cancel_ticket() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let job = scheduler.client().await.submit("example");
        let log = client::read_at(&job.job, 0);
        let outcome = result(&job.job);
        assert_eq!(client::cancel_ticket(&job.ticket).await, Ok(()));
        let expected = "Failed: Ticket cancelled".to_owned();
        assert_eq!(log.await, Err(expected.clone()));
        assert_eq!(outcome.await, Err(expected));
    });
}

#[test]
fn cancel_ticket_late() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let job = scheduler.client().await.submit("example");
        let _given = worker.next().await;
        let outcome = result(&job.job);
        assert_eq!(client::cancel_ticket(&job.ticket).await, Ok(()));
        assert_eq!(
            whole_log(&job.job).await,
            "Building on worker-1\nJob cancelled\n"
        );
        assert_eq!(outcome.await, Err("Failed: Build cancelled".to_owned()));
    });
}

#[test]
fn release_ticket() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let log = client::read_at(&job.job, 0);
        let outcome = result(&job.job);
        drop(job);
        let expected = "Failed: Ticket released (cancelled)".to_owned();
        assert_eq!(log.await, Err(expected.clone()));
        assert_eq!(outcome.await, Err(expected));
    });
}

#[test]
fn release_ticket_late() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let _given = worker.next().await;
        let (_, next) = client::read_at(&job.job, 0).await.unwrap();
        let log = client::read_at(&job.job, next);
        let outcome = result(&job.job);
        drop(job);
        assert_eq!(log.await.unwrap().0, "Job cancelled\n");
        assert_eq!(outcome.await, Err("Failed: Build cancelled".to_owned()));
    });
}

#[test]
fn drain() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler
            .worker_with("worker-1", 2, Traits::default())
            .await;
        let client = scheduler.client().await;
        let jobs = ["one", "two", "three"].map(|what| client.submit(what));
        let (one, two) = (worker.next().await, worker.next().await);
        let pool = scheduler.pool_admin().await;
        let mut reports = Reports::new();
        let drained = operations::drain(&pool, "worker-1", &reports);
        assert_eq!(reports.next().await, "Running jobs: 2");
        one.succeed("");
        assert_eq!(reports.next().await, "Running jobs: 1");
        two.succeed("");
        assert_eq!(reports.next().await, "Running jobs: 0");
        drained.await.unwrap();
        worker.set_active(true).await;
        assert!(worker.given_now().is_none(), "a paused worker got a job");
        set_active(&pool, "worker-1", true, false).await.unwrap();
        worker.next().await.succeed("");
        assert_eq!(result(&jobs[2].job).await, Ok(String::new()));
    });
}

#[test]
fn drain_crash() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let _given = worker.next().await;
        let pool = scheduler.pool_admin().await;
        let mut reports = Reports::new();
        let drained = operations::drain(&pool, "worker-1", &reports);
        assert_eq!(reports.next().await, "Running jobs: 1");
        worker.vanish().await;
        assert_eq!(reports.next().await, "Running jobs: 0");
        drained.await.unwrap();
        let (log, error) = follow(&job.job).await;
        assert_eq!(log, "Building on worker-1\n");
        let error = error.unwrap();
        assert!(
            error.starts_with("Disconnected: Connection closed"),
            "{error}"
        );
        assert_eq!(
            error,
            "Disconnected: Connection closed (the scheduler lost the worker \"worker-1\" while it ran this job)"
        );
        assert_eq!(result(&job.job).await, Err(error));
    });
}

#[test]
fn admin() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let response = admin.pools_request().send().promise.await.unwrap();
        let pools = response.get().unwrap().get_names().unwrap();
        let pools: Vec<_> = pools.iter().map(|name| name.unwrap().to_string()).collect();
        assert_eq!(pools, [Ok(POOL.to_owned())]);

        let pool = scheduler.pool_admin().await;
        set_active(&pool, "worker-1", false, true).await.unwrap();
        assert_eq!(
            workers(&pool).await,
            [("worker-1".to_owned(), false, false)]
        );
        set_active(&pool, "worker-1", true, false).await.unwrap();
        assert_eq!(workers(&pool).await, [("worker-1".to_owned(), false, true)]);
        let mut forget = pool.forget_request();
        forget.get().set_worker("worker-1");
        forget.send().promise.await.unwrap();
        assert_eq!(workers(&pool).await, []);
    });
}

#[test]
fn clients() {
    use super::access::list;
    use crate::support::site::{add, remove};
    story(async {
        let site = Site::with(|config| config.default_clients.clear());
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let admin = scheduler.admin().await;
        let client2 = add(&scheduler, &admin, "client2").await.unwrap();
        let client1 = add(&scheduler, &admin, "client1").await.unwrap();
        assert_eq!(list(&admin).await, ["client1", "client2"]);
        remove(&admin, "client1").await.unwrap();
        assert_eq!(list(&admin).await, ["client2"]);

        let refused = client1.submit("example");
        assert_eq!(
            result(&refused.job).await,
            Err("Failed: Access has been revoked".to_owned())
        );
        let job = client2.submit("example");
        worker.next().await.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));

        let again = add(&scheduler, &admin, "client2").await.err().unwrap();
        assert_eq!(
            kind_and_reason(again),
            "Failed: Client \"client2\" already registered!"
        );
        let unknown = remove(&admin, "client1").await.unwrap_err();
        assert_eq!(
            kind_and_reason(unknown),
            "Failed: Unknown client \"client1\""
        );
    });
}
