//! A scheduler that stops, or loses its power, and starts again where it was.

use std::time::Duration;

use ocluster_joblog::{End, LogConfig, LogStore};
use ocluster_store::{Change, JobId, JobState, SledOptions, SledStore, Store as _, StoreError};

use crate::support::client::{follow, read_at, whole_log};
use crate::support::keeper::{Keeper, Kept, Query, Wanted, find_as_admin};
use crate::support::leased::Joining;
use crate::support::site::{Running, Site, add};
use crate::support::{POOL, eventually, story};

/// Everything that the pool would give out, in order.
async fn drained(scheduler: &Running, count: usize) -> Vec<String> {
    let mut worker = scheduler.leased_worker("drain").await;
    let mut order = Vec::new();
    for _ in 0..count {
        let given = worker.next().await;
        order.push(given.what.clone());
        given.succeed("");
    }
    order
}

/// The store of a scheduler that does not run.
fn stored_at(site: &Site) -> Result<SledStore, StoreError> {
    SledStore::open(&site.path().join("state"), SledOptions::default())
}

/// A scheduler on what was on disk at this moment.
async fn after_power_failure(site: &Site) -> (Site, Running) {
    eventually("what is on disk can be opened", async || {
        // A copy that is made in the middle of a write need not be whole.
        let copy = site.after_power_failure();
        let state = copy.path().join("state");
        let opened = tokio::task::spawn_blocking(move || {
            SledStore::open(&state, SledOptions::default()).map(drop)
        });
        opened.await.unwrap().ok()?;
        let scheduler = copy.start().await;
        Some((copy, scheduler))
    })
    .await
}

async fn found(keeper: &Keeper, id: &str) -> Kept {
    keeper.find(id).await.unwrap()
}

#[test]
fn what_was_accepted_is_there_after_a_power_failure_in_the_same_order() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let keeper = scheduler.keeper().await;
        let alice = Keeper::new(add(&scheduler, &admin, "alice").await.unwrap());
        let mut ids = Vec::new();
        for number in 0..6 {
            let wanted = Wanted::new(&format!("mine {number}")).hint("hint");
            ids.push(keeper.submit(&wanted).await.unwrap().id);
        }
        let many = ["hers 0", "hers 1", "hers 2"].map(Wanted::new);
        alice.submit_many(&many).await.unwrap();
        let urgent = Wanted::new("urgent").urgent();
        ids.push(keeper.submit(&urgent).await.unwrap().id);
        // Given what is on disk the moment the last one was acknowledged,
        let (_copy, second) = after_power_failure(&site).await;
        let again = second.keeper().await;
        for id in &ids {
            let info = found(&again, id).await.info().await;
            assert_eq!(info.stand(), ("queued", 0, ""));
            assert!(info.durable);
        }
        // then both give the same jobs out in the same order.
        let (before, after) = (drained(&scheduler, 10).await, drained(&second, 10).await);
        assert_eq!(before[0], "urgent");
        assert_eq!(before, after);
    });
}

#[test]
fn a_client_that_used_much_waits_its_turn_after_a_restart_too() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let keeper = scheduler.keeper().await;
        let alice = add(&scheduler, &admin, "alice").await.unwrap();
        let alice = Keeper::new(alice);
        let cap = alice_cap(&alice).await;
        let mut used = Vec::new();
        for _ in 0..5 {
            used.push(keeper.keep("used").await);
        }
        drained(&scheduler, 5).await;
        for one in used {
            one.ended().await.unwrap();
        }
        drop(alice);
        scheduler.stop().await;

        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let alice = Keeper::new(scheduler.client_by(&moved(&cap, &scheduler)).await);
        keeper.keep("of one who used much").await;
        alice.keep("of one who did not").await;
        assert_eq!(
            drained(&scheduler, 2).await,
            ["of one who did not", "of one who used much"]
        );
    });
}

async fn alice_cap(alice: &Keeper) -> ocluster_vat::SturdyRef {
    use capnp::capability::FromClientHook as _;
    use ocluster_api::persistent_capnp::persistent;
    let persistent: persistent::Client = alice.endpoint.clone().cast_to();
    let response = persistent.save_request().send().promise.await.unwrap();
    let uri: capnp::text::Reader<'_> = response.get().unwrap().get_sturdy_ref().get_as().unwrap();
    ocluster_vat::SturdyRef::parse(uri.to_str().unwrap()).unwrap()
}

/// The same service at the port of the day.
fn moved(cap: &ocluster_vat::SturdyRef, scheduler: &Running) -> ocluster_vat::SturdyRef {
    let mut cap = cap.clone();
    cap.address.location = scheduler.started.listening.clone();
    cap
}

#[test]
fn a_running_job_goes_on_through_a_restart_at_the_very_byte() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        given.write("before\n");
        let known = i64::try_from(given.build.log_length()).unwrap();
        eventually("the log is here", async || {
            let (_, next) = read_at(&kept.job(), 0).await.unwrap();
            (next == known).then_some(())
        })
        .await;
        scheduler.stop().await;
        worker.connection.closed().await;
        given.write("meanwhile\n");
        assert!(!given.build.cancelled.is_cancelled());
        given.build.reads.borrow_mut().clear();

        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let kept = found(&keeper, &kept.id).await;
        let info = kept.info().await;
        assert_eq!(info.stand(), ("running", 1, "w"));
        assert!(info.waits_for_worker);
        // A reader who was there before goes on where it was.
        let rest = read_at(&kept.job(), known);
        let joining = Joining::new("w").holding(given.held());
        let (_worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(verdicts[0].adopted, "{verdicts:?}");
        assert_eq!(rest.await.unwrap().0, "meanwhile\n");
        assert!(!kept.info().await.waits_for_worker);
        given.write("after\n");
        given.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 1, "w"));
        assert_eq!(ended.output, "out");
        assert_eq!(whole_log(&kept.job()).await, given.build.log());
        assert_eq!(given.build.reads.borrow().first(), Some(&known));
        given.build.settled.cancelled().await;
    });
}

#[test]
fn a_result_that_came_while_the_scheduler_was_away_is_delivered() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        scheduler.stop().await;
        given.succeed("out");

        let scheduler = site.start().await;
        let kept = found(&scheduler.keeper().await, &kept.id).await;
        let joining = Joining::new("w").holding(given.held());
        let (_worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(verdicts[0].adopted, "{verdicts:?}");
        let ended = kept.ended().await.unwrap();
        assert_eq!(
            (ended.state.as_str(), ended.output.as_str()),
            ("passed", "out")
        );
        assert_eq!(whole_log(&kept.job()).await, given.build.log());
        given.build.settled.cancelled().await;
    });
}

/// The scheduler had the result, and lost its power before it could say so to the worker.
#[test]
fn a_job_that_is_over_is_not_taken_back_from_its_worker() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        given.succeed("out");
        kept.ended().await.unwrap();
        scheduler.stop().await;

        let scheduler = site.start().await;
        let joining = Joining::new("w").holding(given.held());
        let (_worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(!verdicts[0].adopted);
        assert!(!verdicts[0].reason.is_empty());
        let kept = found(&scheduler.keeper().await, &kept.id).await;
        let info = kept.info().await;
        assert_eq!(
            (info.stand(), info.output.as_str()),
            (("passed", 1, "w"), "out")
        );
        assert_eq!(whole_log(&kept.job()).await, given.build.log());
    });
}

#[test]
fn what_no_worker_brings_back_in_time_runs_elsewhere_and_the_late_one_is_told() {
    story(async {
        let site = Site::with(|config| config.jobs.readopt_grace = Duration::from_millis(300));
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.leased_worker("late").await;
        let late = worker.next().await;
        late.write("of the late one\n");
        scheduler.stop().await;

        let scheduler = site.start().await;
        let kept = found(&scheduler.keeper().await, &kept.id).await;
        let mut other = scheduler.leased_worker("other").await;
        let given = other.next().await;
        assert_eq!((given.what.as_str(), given.attempt), ("example", 2));
        let joining = Joining::new("late").holding(late.held());
        let (_worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(!verdicts[0].adopted);
        assert!(verdicts[0].reason.contains("over"), "{verdicts:?}");
        given.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 2, "other"));
        assert_eq!(
            ended.story(),
            [(1, "late", "worker-lost"), (2, "other", "")]
        );
    });
}

#[test]
fn a_job_on_a_worker_of_the_frozen_protocol_is_tried_again_at_once() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.worker("frozen").await;
        let given = worker.next().await;
        assert_eq!(given.what, "example");
        scheduler.stop().await;
        // As OCluster's workers do.
        given.build.released.cancelled().await;

        let scheduler = site.start().await;
        let kept = found(&scheduler.keeper().await, &kept.id).await;
        let mut other = scheduler.worker("other").await;
        other.next().await.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 2, "other"));
    });
}

#[test]
fn a_cancel_is_final_though_the_power_fails_and_the_worker_never_heard_of_it() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let mut worker = scheduler.leased_worker("w").await;
        let running = keeper.keep("running").await;
        let given = worker.next().await;
        given.build.stubborn.set(true);
        let queued = keeper.keep("queued").await;
        running.stop("enough").await.unwrap();
        queued.stop("enough of this, too").await.unwrap();
        let (_copy, second) = after_power_failure(&site).await;
        let keeper = second.keeper().await;
        let queued = found(&keeper, &queued.id).await.ended().await.unwrap();
        assert_eq!(queued.state, "cancelled");
        assert!(queued.cause_sentence.contains("enough of this, too"));
        // The worker comes back, with a good end.
        given.succeed("too late");
        let joining = Joining::new("w").holding(given.held());
        let (mut worker, verdicts) = second.leased_worker_with(joining).await.unwrap();
        let running = found(&keeper, &running.id).await.ended().await.unwrap();
        assert_eq!(running.state, "cancelled", "{verdicts:?}");
        assert!(running.cause_sentence.contains("enough"));
        assert_eq!(running.output, "");
        // Neither of them is given out again.
        keeper.keep("next").await;
        assert_eq!(worker.next().await.what, "next");
    });
}

#[test]
fn an_attempt_is_on_disk_before_its_worker_has_it() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let mut worker = scheduler.leased_worker("w").await;
        // Many, with keys, which have to be looked up one after the other.
        let many: Vec<_> = (0..20)
            .map(|number| Wanted::new(&format!("job {number}")).key(&format!("key {number}")))
            .collect();
        let submitted = keeper.submit_many(&many);
        let (answers, given) = tokio::join!(submitted, worker.next());
        let ids: Vec<String> = answers
            .unwrap()
            .into_iter()
            .map(|answer| answer.unwrap().0)
            .collect();
        let (_copy, second) = after_power_failure(&site).await;
        let keeper = second.keeper().await;
        let running = Query {
            states: vec!["running"],
            ..Query::default()
        };
        let (jobs, _) = keeper.list(&running).await.unwrap();
        let [job] = jobs.as_slice() else {
            panic!("one job runs: {jobs:?}");
        };
        assert_eq!(job.stand(), ("running", 1, "w"));
        assert_eq!(JobId::new(given.id).to_string(), job.id);
        assert!(ids.contains(&job.id));
        let joining = Joining::new("w").holding(given.held());
        let (_worker, verdicts) = second.leased_worker_with(joining).await.unwrap();
        assert!(verdicts[0].adopted, "{verdicts:?}");
    });
}

/// The end of its log is written before the end of the job, and the power may fail in between.
#[test]
fn a_job_whose_log_has_ended_though_it_has_not_goes_on() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let (mut worker, _) = scheduler
            .leased_worker_with(Joining::new("w").capacity(2))
            .await
            .unwrap();
        let back = keeper.keep("comes back").await;
        let first = worker.next().await;
        let lost = keeper.keep("is lost").await;
        let second = worker.next().await;
        for (kept, given) in [(&back, &first), (&lost, &second)] {
            eventually("the log is here", async || {
                (kept.info().await.log_length == given.build.log_length()).then_some(())
            })
            .await;
        }
        scheduler.stop().await;
        {
            let logs = site.path().join("state/logs");
            let logs = LogStore::open(&logs, LogConfig::default()).unwrap();
            for given in [&first, &second] {
                let log = logs.resume(given.id, given.build.log_length()).await;
                log.unwrap().finish(End::Closed).await.unwrap();
            }
            logs.close().await;
        }
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        first.succeed("out");
        let joining = Joining::new("w").holding(first.held());
        let (mut worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(verdicts[0].adopted, "{verdicts:?}");
        let back = found(&keeper, &back.id).await;
        let ended = back.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 1, "w"));
        assert_eq!(ended.log_digest.len(), 64);
        assert_eq!(whole_log(&back.job()).await, first.build.log());
        // The other one runs again, and its log goes on behind what there was.
        let again = worker.next().await;
        assert_eq!((again.what.as_str(), again.attempt), ("is lost", 2));
        again.succeed("out");
        let lost = found(&keeper, &lost.id).await;
        assert_eq!(lost.ended().await.unwrap().stand(), ("passed", 2, "w"));
        let log = whole_log(&lost.job()).await;
        assert!(log.starts_with(&second.build.log()), "{log}");
        assert!(log.ends_with(&again.build.log()), "{log}");
    });
}

#[test]
fn a_damaged_description_fails_its_job_and_no_other() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let damaged = keeper.keep("damaged").await;
        let whole = keeper.keep("whole").await;
        scheduler.stop().await;
        {
            let store = stored_at(&site).unwrap();
            let id: JobId = damaged.id.parse().unwrap();
            let record = store.job(id).unwrap().unwrap();
            let mut description = store.description(id).unwrap().unwrap();
            assert!(
                !description.windows(7).any(|piece| piece == b"damaged"),
                "descriptions are not to be read on disk"
            );
            let middle = description.len() / 2;
            description[middle] ^= 1;
            let accepted = Change::JobAccepted {
                record: Box::new(record),
                description,
            };
            store.apply(&[accepted]).unwrap();
        }
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        assert_eq!(given.what, "whole");
        // The worker has not heard of the other one: this is what its first request brought.
        assert_eq!(worker.asked(), 1);
        given.succeed("");
        let damaged = found(&keeper, &damaged.id).await.ended().await.unwrap();
        assert_eq!(damaged.state, "failed");
        assert_eq!(damaged.cause_code, "description-lost");
        let whole = found(&keeper, &whole.id).await.ended().await.unwrap();
        assert_eq!(whole.state, "passed");
    });
}

/// What a crash may leave: the removal of the client is on disk, the end of its jobs is not.
#[test]
fn a_queued_job_whose_client_was_removed_before_the_power_failed_does_not_run() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let admin = scheduler.admin().await;
        let alice = Keeper::new(add(&scheduler, &admin, "alice").await.unwrap());
        let gone = alice.keep("of nobody").await;
        scheduler.stop().await;
        {
            let store = stored_at(&site).unwrap();
            let removed = Change::ClientRemoved {
                client: "alice".to_owned(),
            };
            store.apply(&[removed]).unwrap();
        }
        let scheduler = site.start().await;
        scheduler.keeper().await.keep("of somebody").await;
        let mut worker = scheduler.leased_worker("w").await;
        assert_eq!(worker.next().await.what, "of somebody");
        let found = find_as_admin(&scheduler.admin_endpoint().await, &gone.id).await;
        let ended = found.unwrap().ended().await.unwrap();
        assert_eq!(ended.state, "cancelled");
        assert_eq!(ended.cause_code, "access-revoked");
    });
}

/// The record says where the attempt's part of the log begins, and that was in what the power failure took.
#[test]
fn where_an_attempt_begins_is_corrected_on_disk_when_the_log_is_shorter() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        eventually("the log is here", async || {
            (kept.info().await.log_length == given.build.log_length()).then_some(())
        })
        .await;
        scheduler.stop().await;
        let id: JobId = kept.id.parse().unwrap();
        let stored = |site: &Site| {
            let store = stored_at(site).ok()?;
            Some(store.job(id).unwrap().unwrap())
        };
        {
            let mut record = stored(&site).unwrap();
            record.log_start = given.build.log_length() + 1000;
            let store = stored_at(&site).unwrap();
            let changed = Change::JobRecorded(Box::new(record));
            store.apply(&[changed]).unwrap();
        }
        let _scheduler = site.start().await;
        eventually("the record is corrected", async || {
            let record = stored(&site.after_power_failure())?;
            (record.log_start == given.build.log_length()).then_some(())
        })
        .await;
    });
}

#[test]
fn a_job_whose_pool_is_gone_is_over_with_that_cause() {
    story(async {
        let mut site = Site::with(|config| {
            config
                .pools
                .push(("other".to_owned(), ocluster_scheduling::Policy::default()));
        });
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let running = keeper.keep("running").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        let waiting = Wanted::new("waiting").in_pool("other");
        let waiting = keeper.submit(&waiting).await.unwrap();
        scheduler.stop().await;
        site.config().pools.retain(|(name, _)| name == "other");
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let ended = found(&keeper, &running.id).await.ended().await.unwrap();
        assert_eq!(ended.stand(), ("cancelled", 1, "w"));
        assert_eq!(ended.cause_code, "pool-gone");
        assert!(ended.cause_sentence.contains("\"pool\""), "{ended:?}");
        drop(given);
        scheduler.stop().await;
        site.config().pools[0].0 = POOL.to_owned();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let ended = found(&keeper, &waiting.id).await.ended().await.unwrap();
        assert_eq!(ended.stand(), ("cancelled", 0, ""));
        assert_eq!(ended.cause_code, "pool-gone");
    });
}

#[test]
fn jobs_that_live_as_long_as_their_clients_are_over_after_a_restart_beside_those_that_are_kept() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let attached = keeper.client.submit("attached");
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        assert!(!given.durable);
        let kept = keeper.keep("kept").await;
        scheduler.stop().await;
        drop(attached);

        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
        let states: Vec<_> = jobs
            .iter()
            .map(|job| (job.durable, job.state.as_str()))
            .collect();
        assert_eq!(states[0], (true, "queued"));
        assert!(!states[1].0);
        assert!(["lost", "cancelled"].contains(&states[1].1), "{states:?}");
        assert_eq!(jobs[0].id, kept.id);
        let lost = keeper.find(&jobs[1].id).await.unwrap();
        let (log, _) = follow(&lost.job()).await;
        assert!(given.build.log().starts_with(&log), "{log}");
    });
}

/// Records are not the only thing that a restart must not repeat: ids are not given twice.
#[test]
fn ids_are_not_given_twice_though_the_power_fails() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let first = scheduler.keeper().await.keep("first").await;
        let (_copy, second) = after_power_failure(&site).await;
        let other = second.keeper().await.keep("second").await;
        let (first, second) = (
            first.id.parse::<JobId>().unwrap(),
            other.id.parse::<JobId>().unwrap(),
        );
        assert!(second > first);
        assert_eq!(JobState::Queued.name(), other.info().await.state);
    });
}
