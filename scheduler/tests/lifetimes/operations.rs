//! What an admin does to a pool: draining, updating, rates, and looking at it.

use std::rc::Rc;

use ocluster_api::cluster_capnp::{pool_admin, progress, worker};
use tokio::sync::mpsc;

use crate::support::client::{describe, result};
use crate::support::site::{Site, set_active, show, workers};
use crate::support::worker::{OnUpdate, Traits};
use crate::support::{POOL, eventually, kind_and_reason, story};

/// An admin that listens to progress.
pub(crate) struct Reports {
    sender: mpsc::UnboundedSender<String>,
    received: mpsc::UnboundedReceiver<String>,
}

impl Reports {
    pub(crate) fn new() -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        Self { sender, received }
    }

    pub(crate) async fn next(&mut self) -> String {
        self.received.recv().await.unwrap()
    }

    fn listener(&self) -> progress::Client {
        capnp_rpc::new_client(Listener(self.sender.clone()))
    }
}

struct Listener(mpsc::UnboundedSender<String>);

impl progress::Server for Listener {
    async fn report(
        self: Rc<Self>,
        params: progress::ReportParams,
        _: progress::ReportResults,
    ) -> capnp::Result<()> {
        let _ = self.0.send(params.get()?.get_status()?.to_string()?);
        Ok(())
    }
}

/// Starts to drain a worker.
pub(crate) fn drain(
    pool: &pool_admin::Client,
    worker: &str,
    reports: &Reports,
) -> impl Future<Output = Result<(), String>> + use<> {
    let mut request = pool.drain_request();
    request.get().set_worker(worker);
    request.get().set_progress(reports.listener());
    let drained = request.send().promise;
    async move { drained.await.map(drop).map_err(kind_and_reason) }
}

/// Starts to update a worker.
fn update(
    pool: &pool_admin::Client,
    worker: &str,
    reports: &Reports,
) -> impl Future<Output = Result<(), String>> + use<> {
    let mut request = pool.update_request();
    request.get().set_worker(worker);
    request.get().set_progress(reports.listener());
    let updated = request.send().promise;
    async move { updated.await.map(drop).map_err(kind_and_reason) }
}

async fn set_rate(pool: &pool_admin::Client, client: &str, rate: f64) -> Result<(), String> {
    let mut request = pool.set_rate_request();
    request.get().set_id(client);
    request.get().set_rate(rate);
    let set = request.send().promise.await;
    set.map(drop).map_err(kind_and_reason)
}

#[test]
fn draining_a_worker_that_is_not_there_says_so_and_an_unknown_one_fails() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_admin().await;
        set_active(&pool, "away", true, true).await.unwrap();
        let mut reports = Reports::new();
        drain(&pool, "away", &reports).await.unwrap();
        assert_eq!(reports.next().await, "Disconnected (nothing to drain)");
        assert_eq!(workers(&pool).await, [("away".to_owned(), false, false)]);
        let unknown = Err("Failed: Unknown worker".to_owned());
        assert_eq!(drain(&pool, "nobody", &reports).await, unknown);
        assert_eq!(update(&pool, "away", &reports).await, unknown);
        let paused = set_active(&pool, "nobody", false, false).await;
        assert_eq!(paused.map_err(kind_and_reason), unknown);
    });
}

/// An admin that goes away while it waits: the pause stays, the worker finishes its job.
#[test]
fn an_admin_that_stops_waiting_for_a_drain_leaves_the_worker_paused() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let given = worker.next().await;
        let pool = scheduler.pool_admin().await;
        let mut reports = Reports::new();
        let drained = drain(&pool, "w", &reports);
        assert_eq!(reports.next().await, "Running jobs: 1");
        drop(drained);
        given.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
        assert_eq!(workers(&pool).await, [("w".to_owned(), true, false)]);
    });
}

/// Upstream's defect: the worker stayed "shutting down" until it happened to reconnect.
#[test]
fn a_failed_update_gives_the_worker_back() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let failing = Traits {
            on_update: OnUpdate::Fail("cannot pull the image".to_owned()),
            ..Traits::default()
        };
        let mut worker = scheduler.worker_with("w", 1, failing).await;
        let client = scheduler.client().await;
        let first = client.submit("first");
        let given = worker.next().await;
        let pool = scheduler.pool_admin().await;
        let mut reports = Reports::new();
        let updated = update(&pool, "w", &reports);
        assert_eq!(reports.next().await, "Running jobs: 1");
        assert!(show(&pool).await.contains("(inactive: shutting down)"));
        let second = client.submit("second");
        given.succeed("");
        assert_eq!(reports.next().await, "Restarting");
        assert_eq!(
            updated.await,
            Err("Failed: cannot pull the image".to_owned())
        );
        let given = worker.next().await;
        assert_eq!(given.what, "second");
        given.succeed("");
        assert_eq!(result(&first.job).await, Ok(String::new()));
        assert_eq!(result(&second.job).await, Ok(String::new()));
        assert_eq!(workers(&pool).await, [("w".to_owned(), true, true)]);
    });
}

#[test]
fn a_worker_is_updated_by_one_admin_at_a_time() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let given = worker.next().await;
        let pool = scheduler.pool_admin().await;
        let mut reports = Reports::new();
        let first = update(&pool, "w", &reports);
        assert_eq!(reports.next().await, "Running jobs: 1");
        // A second one is refused, and the first goes on.
        assert_eq!(
            update(&pool, "w", &Reports::new()).await,
            Err("Failed: Worker \"w\" is being updated already".to_owned())
        );
        assert!(show(&pool).await.contains("(inactive: shutting down)"));
        // Once the first admin gives up, another may try.
        drop(first);
        eventually("the worker is given back", async || {
            let shown = show(&pool).await;
            (!shown.contains("shutting down")).then_some(())
        })
        .await;
        let mut reports = Reports::new();
        let _second = update(&pool, "w", &reports);
        assert_eq!(reports.next().await, "Running jobs: 1");
        given.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
        assert_eq!(reports.next().await, "Restarting");
    });
}

#[test]
fn an_update_ends_when_the_worker_is_back() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let worker = scheduler.worker("w").await;
        let pool = scheduler.pool_admin().await;
        let mut reports = Reports::new();
        let mut updated = Box::pin(update(&pool, "w", &reports));
        assert_eq!(reports.next().await, "Restarting");
        worker.connection.closed().await;
        tokio::select! {
            biased;
            early = &mut updated => panic!("updated before the worker is back: {early:?}"),
            shown = show(&pool) => assert!(!shown.contains("capacity: 2"), "{shown}"),
        }
        eventually("the old registration is over", async || {
            let known = workers(&pool).await;
            (known == [("w".to_owned(), false, true)]).then_some(())
        })
        .await;
        let _other = scheduler.worker("another").await;
        let _back = scheduler.worker("w").await;
        assert_eq!(updated.await, Ok(()));
        let known = workers(&pool).await;
        assert!(known.contains(&("w".to_owned(), true, true)), "{known:?}");
    });
}

/// Upstream's defect: a rate that cannot be one hit an assertion.
#[test]
fn a_rate_that_cannot_be_one_is_refused_with_a_sentence() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_admin().await;
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = set_rate(&pool, "client", rate).await.unwrap_err();
            let sentence = refused.strip_prefix("Failed: ").unwrap();
            assert!(!sentence.contains("Internal"), "{sentence}");
            assert!(
                sentence.split(' ').count() > 3,
                "not a sentence: {sentence}"
            );
        }
        assert_eq!(set_rate(&pool, "client", 2.5).await, Ok(()));
        assert_eq!(
            set_rate(&pool, "nobody", 1.0).await,
            Err("Failed: No such user".to_owned())
        );
    });
}

#[test]
fn an_admin_reaches_a_connected_worker_itself() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let _worker = scheduler.worker("w").await;
        let pool = scheduler.pool_admin().await;
        let ask = |name: &str| {
            let mut request = pool.worker_request();
            request.get().set_worker(name);
            let mut metrics = request.send().pipeline.get_worker().metrics_request();
            metrics.get().set_source(worker::MetricsSource::Agent);
            metrics.send().promise
        };
        let response = ask("w").await.unwrap();
        assert_eq!(response.get().unwrap().get_data().unwrap(), "up 1\n");
        let unknown = ask("nobody").await.err().unwrap();
        assert_eq!(kind_and_reason(unknown), "Failed: Unknown worker");

        let mut forget = pool.forget_request();
        forget.get().set_worker("w");
        let connected = forget.send().promise.await.err().unwrap();
        assert_eq!(
            kind_and_reason(connected),
            "Failed: Worker \"w\" is still connected!"
        );
        let mut forget = pool.forget_request();
        forget.get().set_worker("nobody");
        let unknown = forget.send().promise.await.err().unwrap();
        assert_eq!(
            kind_and_reason(unknown),
            "Failed: Worker \"nobody\" not known in this pool"
        );
    });
}

#[test]
fn a_pool_of_ten_thousand_queued_jobs_can_be_shown_and_serves_on() {
    const JOBS: usize = 10_000;
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        // The first answer shows the client to be none of the strangers that may do little at once.
        super::logs::arrived(&client.submit("first").ticket).await;
        let mut tickets = Vec::new();
        let numbers: Vec<usize> = (0..JOBS).collect();
        for some in numbers.chunks(1000) {
            let submitted: Vec<_> = some
                .iter()
                .map(|number| {
                    let mut request = client.submission.submit_request();
                    request.get().set_pool(POOL);
                    describe(&mut request.get().init_descr(), &format!("job {number}"));
                    request.send().promise
                })
                .collect();
            for promise in submitted {
                let response = promise.await.unwrap();
                tickets.push(response.get().unwrap().get_ticket().unwrap());
            }
        }
        let pool = scheduler.pool_admin().await;
        let shown = show(&pool).await;
        let count = shown.matches("client:(no cache hint)@").count();
        assert_eq!(count, JOBS);
        let mut worker = scheduler.worker("w").await;
        assert_eq!(worker.next().await.what, "job 0");
    });
}
