//! What administrators do with jobs and workers.

use ocluster_api::extensions_capnp::{admin_endpoint, pool_admin_endpoint};

use crate::support::client::result;
use crate::support::job_view::JobView;
use crate::support::keeper::texts;
use crate::support::leased::Joining;
use crate::support::site::{Site, show, workers};
use crate::support::{eventually, kind_and_reason, story};

async fn requeue(
    admin: &admin_endpoint::Client,
    id: &str,
    reason: &str,
) -> Result<JobView, String> {
    let mut request = admin.requeue_request();
    request.get().set_id(id);
    request.get().set_reason(reason);
    let response = request.send().promise.await.map_err(kind_and_reason)?;
    Ok(JobView::read(response.get().unwrap().get_info().unwrap()))
}

async fn evict(
    pool: &pool_admin_endpoint::Client,
    worker: &str,
    reason: &str,
) -> Result<(u32, u32), String> {
    let mut request = pool.evict_request();
    request.get().set_worker(worker);
    request.get().set_reason(reason);
    let response = request.send().promise.await.map_err(kind_and_reason)?;
    let results = response.get().unwrap();
    Ok((results.get_moved(), results.get_cancelled()))
}

async fn pause(pool: &pool_admin_endpoint::Client, worker: &str, by: &str, reason: &str) {
    let mut request = pool.pause_request();
    request.get().set_worker(worker);
    request.get().set_active(false);
    request.get().set_auto_create(true);
    request.get().set_by(by);
    request.get().set_reason(reason);
    request.send().promise.await.unwrap();
}

async fn resume(pool: &pool_admin_endpoint::Client, worker: &str) {
    let mut request = pool.pause_request();
    request.get().set_worker(worker);
    request.get().set_active(true);
    request.send().promise.await.unwrap();
}

/// A worker as `describe` tells of it.
#[derive(Debug)]
struct Described {
    name: String,
    connected: bool,
    active: bool,
    inactive_reasons: Vec<String>,
    paused_by: String,
    pause_reason: String,
    paused_at: u64,
    capacity: u32,
    running: u32,
    queued: u32,
    version: String,
    kinds: Vec<String>,
    last_heard_ago: u64,
    jobs: Vec<String>,
}

async fn describe(pool: &pool_admin_endpoint::Client) -> Vec<Described> {
    let response = pool.describe_request().send().promise.await.unwrap();
    let list = response.get().unwrap().get_workers().unwrap();
    let text = |text: capnp::Result<capnp::text::Reader<'_>>| text.unwrap().to_string().unwrap();
    list.iter()
        .map(|worker| Described {
            name: text(worker.get_name()),
            connected: worker.get_connected(),
            active: worker.get_active(),
            inactive_reasons: texts(worker.get_inactive_reasons().unwrap()),
            paused_by: text(worker.get_paused_by()),
            pause_reason: text(worker.get_pause_reason()),
            paused_at: worker.get_paused_at(),
            capacity: worker.get_capacity(),
            running: worker.get_running(),
            queued: worker.get_queued(),
            version: text(worker.get_facts().unwrap().get_version()),
            kinds: texts(worker.get_facts().unwrap().get_kinds().unwrap()),
            last_heard_ago: worker.get_last_heard_ago(),
            jobs: texts(worker.get_jobs().unwrap()),
        })
        .collect()
}

#[test]
fn an_administrator_can_ask_what_is_offered() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin_endpoint().await;
        let response = admin.features_request().send().promise.await.unwrap();
        let features = texts(response.get().unwrap().get_features().unwrap());
        assert_eq!(features, ["jobs", "evict", "pause-notes"]);
    });
}

#[test]
fn a_job_that_is_queued_again_goes_to_its_old_place_and_the_attempt_does_not_count() {
    story(async {
        let site = Site::with(|config| config.jobs.max_attempts = 1);
        let scheduler = site.start().await;
        let admin = scheduler.admin_endpoint().await;
        let keeper = scheduler.keeper().await;
        let mut worker = scheduler.leased_worker("w").await;
        let first = keeper.keep("first").await;
        let given = worker.next().await;
        keeper.keep("second").await;
        // Its slot is free a moment before the job is in the queue again.
        worker.stop_asking();
        let info = requeue(&admin, &first.id, "the wrong\nmachine").await;
        let info = info.unwrap();
        assert_eq!(info.id, first.id);
        assert_eq!(info.attempts.len(), 1, "{info:?}");
        assert!(
            info.attempts[0]
                .cause_sentence
                .contains("the wrong machine")
        );
        given.build.cancelled.cancelled().await;
        let mut other = scheduler.leased_worker("other").await;
        let again = other.next().await;
        assert_eq!((again.what.as_str(), again.attempt), ("first", 2));
        again.succeed("out");
        let ended = first.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 2, "other"));
        // What came of the first attempt afterwards is nobody's.
        assert_eq!(ended.output, "out");
        let over = requeue(&admin, &first.id, "").await.unwrap_err();
        assert!(over.contains("is over"), "{over}");
    });
}

#[test]
fn what_cannot_be_queued_again_is_refused_with_the_reason() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin_endpoint().await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("queued").await;
        let queued = requeue(&admin, &kept.id, "").await.unwrap_err();
        assert!(queued.contains("queued already"), "{queued}");
        kept.stop("").await.unwrap();
        let _attached = keeper.client.submit("attached");
        let mut worker = scheduler.worker("w").await;
        let _given = worker.next().await;
        let admins = crate::support::keeper::Query {
            states: vec!["running"],
            ..Default::default()
        };
        let jobs = crate::support::keeper::list_as_admin(&admin, &admins).await;
        let attached = requeue(&admin, &jobs[0].id, "").await.unwrap_err();
        assert!(
            attached.contains("only as long as its client"),
            "{attached}"
        );
        let unknown = requeue(&admin, "nonsense", "").await.unwrap_err();
        assert!(unknown.contains("is not a job id"), "{unknown}");
    });
}

#[test]
fn all_jobs_are_taken_from_a_worker_and_those_that_are_kept_run_elsewhere() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_endpoint().await;
        let keeper = scheduler.keeper().await;
        let (mut worker, _) = scheduler
            .leased_worker_with(Joining::new("w").capacity(2))
            .await
            .unwrap();
        let kept = keeper.keep("kept").await;
        let first = worker.next().await;
        let attached = keeper.client.submit("attached");
        let second = worker.next().await;
        assert_eq!((first.durable, second.durable), (true, false));
        let outcome = result(&attached.job);
        pause(&pool, "w", "", "").await;
        assert_eq!(evict(&pool, "w", "it smells").await, Ok((1, 1)));
        first.build.cancelled.cancelled().await;
        second.build.cancelled.cancelled().await;
        assert!(outcome.await.is_err());
        let mut other = scheduler.leased_worker("other").await;
        let again = other.next().await;
        assert_eq!((again.what.as_str(), again.attempt), ("kept", 2));
        again.succeed("");
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 2, "other"));
        assert!(ended.attempts[0].cause_sentence.contains("it smells"));
        assert_eq!(evict(&pool, "w", "").await, Ok((0, 0)));
        let unknown = evict(&pool, "nobody", "").await.unwrap_err();
        assert_eq!(unknown, "Failed: Unknown worker");
    });
}

#[test]
fn jobs_are_taken_from_a_worker_that_is_away_and_it_is_told_when_it_is_back() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_endpoint().await;
        let kept = scheduler.keeper().await.keep("kept").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        worker.vanish().await;
        eventually("the job waits for its worker", async || {
            kept.info().await.waits_for_worker.then_some(())
        })
        .await;
        assert_eq!(evict(&pool, "w", "gone for good").await, Ok((1, 0)));
        let mut other = scheduler.leased_worker("other").await;
        other.next().await.succeed("out");
        assert_eq!(kept.ended().await.unwrap().stand(), ("passed", 2, "other"));
        let joining = Joining::new("w").holding(given.held());
        let (_worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(!verdicts[0].adopted, "{verdicts:?}");
    });
}

#[test]
fn a_pause_carries_who_and_why_and_when_through_a_restart() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_endpoint().await;
        let worker = scheduler.leased_worker("w").await;
        pause(&pool, "w", "alice@ops", "the fan\nis loud").await;
        let check = |described: &[Described], connected: bool| {
            let [w] = described else {
                panic!("one worker: {described:?}");
            };
            assert_eq!(
                (w.name.as_str(), w.connected, w.active),
                ("w", connected, false)
            );
            assert_eq!(w.paused_by, "alice@ops");
            assert_eq!(w.pause_reason, "the fan is loud");
            assert!(w.paused_at > 1_600_000_000_000, "{w:?}");
            let reasons: &[&str] = if connected { &["admin pause"] } else { &[] };
            assert_eq!(w.inactive_reasons, reasons);
        };
        check(&describe(&pool).await, true);
        drop(worker);
        scheduler.stop().await;
        let scheduler = site.start().await;
        let pool = scheduler.pool_endpoint().await;
        check(&describe(&pool).await, false);
        let _worker = scheduler.leased_worker("w").await;
        check(&describe(&pool).await, true);
        resume(&pool, "w").await;
        let described = describe(&pool).await;
        assert!(described[0].active);
        assert_eq!(
            (
                described[0].paused_by.as_str(),
                described[0].pause_reason.as_str(),
                described[0].paused_at
            ),
            ("", "", 0)
        );
        // The frozen interface says the same, as far as it can.
        let known = workers(&scheduler.pool_admin().await).await;
        assert_eq!(known, [("w".to_owned(), true, true)]);
    });
}

#[test]
fn workers_are_described_with_what_they_do() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_endpoint().await;
        let keeper = scheduler.keeper().await;
        let (mut leased, _) = scheduler
            .leased_worker_with(Joining::new("leased").capacity(1))
            .await
            .unwrap();
        let kept = keeper.keep("kept").await;
        let given = leased.next().await;
        let mut frozen = scheduler.worker("frozen").await;
        let attached = keeper.client.submit("attached");
        let _also = frozen.next().await;
        let described = describe(&pool).await;
        let [frozen, leased] = described.as_slice() else {
            panic!("two workers: {described:?}");
        };
        assert_eq!(
            (frozen.name.as_str(), leased.name.as_str()),
            ("frozen", "leased")
        );
        assert_eq!((leased.capacity, leased.running, leased.queued), (1, 1, 0));
        assert_eq!(leased.version, "1.2.3");
        assert_eq!(leased.kinds, ["docker"]);
        assert_eq!(leased.jobs, std::slice::from_ref(&kept.id));
        assert!(leased.last_heard_ago < 60_000);
        assert_eq!(frozen.version, "");
        assert_eq!(frozen.jobs.len(), 1);
        drop(attached);
        given.succeed("");
        kept.ended().await.unwrap();
        eventually("the worker is idle", async || {
            let described = describe(&pool).await;
            (described[1].running == 0 && described[1].jobs.is_empty()).then_some(())
        })
        .await;
        let shown = show(&scheduler.pool_admin().await).await;
        assert!(shown.contains("leased"), "{shown}");
    });
}
