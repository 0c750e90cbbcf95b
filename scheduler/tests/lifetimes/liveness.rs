//! Workers that hang: they keep their connection and say nothing.

use std::time::Duration;

use crate::support::client::result;
use crate::support::site::{Site, workers};
use crate::support::stoppable::Stoppable;
use crate::support::worker::{FakeWorker, Traits};
use crate::support::{eventually, story};

#[test]
fn a_worker_that_hangs_makes_way_for_another_of_its_name() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let (connection, stopped) = Stoppable::connect(&scheduler).await;
        let mut hanging =
            FakeWorker::join(connection, &scheduler.pool_id(), "w", 1, Traits::default())
                .await
                .unwrap();
        let client = scheduler.client().await;
        let lost = client.submit("lost");
        let _given = hanging.next().await;
        stopped.set(true);
        let mut fresh = scheduler.worker("w").await;
        let outcome = result(&lost.job).await.unwrap_err();
        assert!(outcome.starts_with("Disconnected: "), "{outcome}");
        let job = client.submit("example");
        fresh.next().await.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
        let known = workers(&scheduler.pool_admin().await).await;
        assert_eq!(known, [("w".to_owned(), true, true)]);
    });
}

/// The other worker may be the same one with a mistake in its configuration, so a living worker keeps its name, and its jobs.
#[test]
fn a_living_worker_keeps_its_name() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let given = worker.next().await;
        let rival = scheduler.try_worker("w");
        assert_eq!(
            rival.await.err().as_deref(),
            Some("Failed: Worker already registered!")
        );
        given.succeed("done");
        assert_eq!(result(&job.job).await, Ok("done".to_owned()));
    });
}

#[test]
fn a_worker_that_hangs_is_put_out_in_time() {
    story(async {
        let site = Site::with(|config| {
            config.ping_interval = Duration::from_millis(100);
            config.ping_timeout = Duration::from_millis(400);
        });
        let scheduler = site.start().await;
        let (connection, stopped) = Stoppable::connect(&scheduler).await;
        let mut hanging = FakeWorker::join(
            connection,
            &scheduler.pool_id(),
            "hanging",
            1,
            Traits::default(),
        )
        .await
        .unwrap();
        let job = scheduler.client().await.submit("example");
        let _given = hanging.next().await;
        let _idle = scheduler.worker("idle").await;
        stopped.set(true);
        assert_eq!(
            result(&job.job).await,
            Err(
                "Disconnected: No answer from the peer for 0.4 s (the scheduler lost the worker \"hanging\" while it ran \
                 this job)"
                    .to_owned()
            )
        );
        // The other one says nothing either, but it answers when asked.
        let pool = scheduler.pool_admin().await;
        eventually("only the hanging worker is gone", async || {
            let known = workers(&pool).await;
            (known
                == [
                    ("hanging".to_owned(), false, true),
                    ("idle".to_owned(), true, true),
                ])
            .then_some(())
        })
        .await;
    });
}
