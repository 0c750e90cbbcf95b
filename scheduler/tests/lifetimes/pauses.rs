//! Workers that pause themselves, with or without a reason, over the wire.

use capnp::capability::FromClientHook as _;
use ocluster_api::extensions_capnp::explained_queue;

use crate::support::site::{Site, show};
use crate::support::story;
use crate::support::worker::FakeWorker;

/// `ExplainedQueue.setInactive`.
async fn set_inactive(worker: &FakeWorker, reason: &str) {
    let queue: explained_queue::Client = worker.queue.clone().cast_to();
    let mut request = queue.set_inactive_request();
    request.get().set_reason(reason);
    request.send().promise.await.unwrap();
}

#[test]
fn a_worker_says_why_it_pauses_and_its_job_waits_for_another() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_admin().await;
        let w1 = scheduler.worker("w1").await;
        set_inactive(&w1, "the disk\nis \u{1b}[31mfull").await;
        let shown = show(&pool).await;
        assert!(
            shown.contains("w1 (0): (inactive: worker pause (the disk is [31mfull)) (0 running)\n"),
            "{shown}"
        );
        let _job = scheduler.client().await.submit("example");
        let mut w2 = scheduler.worker("w2").await;
        w2.next().await.succeed("");
        w1.set_active(true).await;
        assert!(!show(&pool).await.contains("inactive"));
    });
}

#[test]
fn a_worker_that_talks_too_much_is_cut_short() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_admin().await;
        let w1 = scheduler.worker("w1").await;
        set_inactive(&w1, &"blah ".repeat(100_000)).await;
        let shown = show(&pool).await;
        assert!(shown.len() < 1000 && shown.contains("blah…))"), "{shown}");
        // Nothing to say is no reason.
        set_inactive(&w1, " \n ").await;
        let shown = show(&pool).await;
        assert!(shown.contains("(inactive: worker pause)"), "{shown}");
    });
}
