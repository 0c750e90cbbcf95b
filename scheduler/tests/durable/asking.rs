//! Finding, listing, watching, explaining and stopping jobs.

use crate::support::client::{cancel, follow, read_at, result};
use crate::support::keeper::{Keeper, Query, find_as_admin, list_as_admin};
use crate::support::site::{Running, Site, add, set_active};
use crate::support::{eventually, story};

async fn alice(scheduler: &Running) -> Keeper {
    let admin = scheduler.admin().await;
    Keeper::new(add(scheduler, &admin, "alice").await.unwrap())
}

#[test]
fn a_job_is_found_by_its_id_or_by_a_beginning_that_no_other_has() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(keeper.keep("example").await.id);
        }
        for id in &ids {
            assert_eq!(keeper.find(id).await.unwrap().id, *id);
            let upper = id.to_ascii_uppercase();
            assert_eq!(keeper.find(&upper).await.unwrap().id, *id);
        }
        // Some forty ids begin with no more than a few letters.
        let beginning = &ids[39][..2];
        let ambiguous = keeper.find(beginning).await.err().unwrap();
        assert!(ambiguous.contains("several job ids"), "{ambiguous}");
        for nonsense in ["", "x", "j!", "j12/../j13", &"j".repeat(10_000)] {
            let refused = keeper.find(nonsense).await.err().unwrap();
            assert!(refused.starts_with("Failed: "), "{refused}");
            assert!(refused.len() < 400, "{} bytes", refused.len());
        }
    });
}

#[test]
fn jobs_of_others_and_jobs_that_never_were_get_the_same_answer() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let alice = alice(&scheduler).await;
        let hers = alice.keep("hers").await;
        let gone = {
            // The id after it is nobody's.
            let last = alice.keep("last").await;
            let number = last.id.parse::<ocluster_store::JobId>().unwrap().get();
            ocluster_store::JobId::new(number + 1000).to_string()
        };
        let others = keeper.find(&hers.id).await.err().unwrap();
        let unknown = keeper.find(&gone).await.err().unwrap();
        assert_eq!(others.replace(&hers.id, "ID"), unknown.replace(&gone, "ID"));
        let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
        assert!(jobs.is_empty());
        let asked = Query {
            client: "alice",
            ..Query::default()
        };
        assert!(keeper.list(&asked).await.unwrap().0.is_empty());
        // An administrator sees both.
        let admin = scheduler.admin_endpoint().await;
        assert_eq!(list_as_admin(&admin, &asked).await.len(), 2);
        let found = find_as_admin(&admin, &hers.id).await.unwrap();
        assert_eq!(found.info().await.client, "alice");
    });
}

#[test]
fn a_list_comes_in_pages_newest_first_and_each_job_once() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let alice = alice(&scheduler).await;
        let mut ids = Vec::new();
        let mut worker = scheduler.leased_worker("w").await;
        for number in 0..25 {
            let kept = keeper.keep("mine").await;
            alice.keep("hers").await;
            if number < 10 {
                for _ in 0..2 {
                    worker.next().await.succeed("");
                }
                kept.ended().await.unwrap();
            }
            ids.push(kept.id);
        }
        ids.reverse();
        let mut seen = Vec::new();
        let mut query = Query {
            limit: 7,
            ..Query::default()
        };
        loop {
            let (jobs, more) = keeper.list(&query).await.unwrap();
            assert!(jobs.len() <= 7);
            seen.extend(jobs.into_iter().map(|job| job.id));
            if more.is_empty() {
                break;
            }
            query.before = more;
        }
        assert_eq!(seen, ids);
        let of = async |states: Vec<&'static str>| {
            let query = Query {
                states,
                ..Query::default()
            };
            keeper.list(&query).await.unwrap().0.len()
        };
        assert_eq!(of(vec!["passed"]).await, 10);
        assert_eq!(of(vec!["queued", "running"]).await, 15);
        assert_eq!(of(vec!["failed"]).await, 0);
        let nowhere = Query {
            pool: "nowhere",
            ..Query::default()
        };
        assert!(keeper.list(&nowhere).await.unwrap().0.is_empty());
    });
}

#[test]
fn whoever_watches_is_told_of_each_change_of_its_own_jobs() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let alice = alice(&scheduler).await;
        let all = Query::default();
        let now = keeper.watch(&all, 0).await.unwrap();
        assert!(now.jobs.is_empty() && !now.missed);
        let waiting = keeper.watch(&all, now.cursor);
        alice.keep("hers").await;
        let kept = keeper.keep("mine").await;
        let seen = waiting.await.unwrap();
        assert!(!seen.missed);
        assert!(seen.cursor > now.cursor);
        let ids: Vec<_> = seen.jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(ids, [kept.id.as_str()]);
        assert_eq!(seen.jobs[0].state, "queued");
        // What changed between two questions is told at the second one.
        let mut worker = scheduler.leased_worker("w").await;
        worker.next().await.succeed("");
        worker.next().await.succeed("");
        kept.ended().await.unwrap();
        let mut cursor = seen.cursor;
        loop {
            let seen = keeper.watch(&all, cursor).await.unwrap();
            assert!(!seen.missed);
            assert!(seen.jobs.iter().all(|job| job.id == kept.id));
            cursor = seen.cursor;
            if seen.jobs.iter().any(|job| job.state == "passed") {
                break;
            }
        }
    });
}

/// A cursor from before a restart, or from nowhere.
#[test]
fn whoever_missed_changes_is_told_so() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        keeper.keep("example").await;
        let cursor = keeper.watch(&Query::default(), 0).await.unwrap().cursor;
        scheduler.stop().await;
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let seen = keeper.watch(&Query::default(), cursor + 1_000_000).await;
        let seen = seen.unwrap();
        assert!(seen.missed);
        let next = keeper.watch(&Query::default(), seen.cursor);
        let kept = keeper.keep("example").await;
        let next = next.await.unwrap();
        assert!(!next.missed);
        assert!(next.jobs.iter().any(|job| job.id == kept.id));
    });
}

#[test]
fn a_log_can_be_read_before_there_is_one() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("example").await;
        let (log, outcome) = (read_at(&kept.job(), 0), result(&kept.job()));
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        assert_eq!(log.await.unwrap().0, "Building on w\n");
        given.succeed("out");
        assert_eq!(outcome.await, Ok("out".to_owned()));
        // The end is an empty piece; and what is beyond it is an error, as with any log.
        let length = i64::try_from(given.build.log_length()).unwrap();
        assert_eq!(
            read_at(&kept.job(), length).await,
            Ok((String::new(), length))
        );
        assert!(read_at(&kept.job(), length + 1).await.is_err());
        assert_eq!(read_at(&kept.job(), -5).await.unwrap().0, "eded\n");
    });
}

#[test]
fn a_job_that_is_stopped_in_the_queue_is_cancelled_with_the_reason() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("stopped").await;
        let (log, outcome) = (kept.job(), result(&kept.job()));
        kept.stop("a newer\ncommit came").await.unwrap();
        let info = kept.ended().await.unwrap();
        assert_eq!(info.stand(), ("cancelled", 0, ""));
        assert_eq!(info.cause_code, "cancelled");
        assert!(
            info.cause_sentence.contains("a newer commit came"),
            "{}",
            info.cause_sentence
        );
        assert!(outcome.await.is_err());
        let (text, _) = follow(&log).await;
        assert_eq!(text, "");
        // No worker gets it.
        keeper.keep("next").await;
        let mut worker = scheduler.leased_worker("w").await;
        assert_eq!(worker.next().await.what, "next");
        // It has ended as it was to end.
        assert_eq!(kept.stop("").await, Ok(()));
        assert_eq!(cancel(&kept.job()).await, Ok(()));
    });
}

#[test]
fn a_job_that_is_stopped_on_its_worker_is_cancelled_whatever_the_worker_says() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let mut worker = scheduler.leased_worker("w").await;
        let kept = keeper.keep("stopped").await;
        let given = worker.next().await;
        given.build.stubborn.set(true);
        kept.stop("enough").await.unwrap();
        given.build.cancelled.cancelled().await;
        // It was promised that the job will not pass any more.
        given.succeed("too late");
        let info = kept.ended().await.unwrap();
        assert_eq!(info.stand(), ("cancelled", 1, "w"));
        assert!(info.cause_sentence.contains("enough"), "{info:?}");
        assert_eq!(info.output, "");
        given.build.settled.cancelled().await;
    });
}

#[test]
fn a_job_that_is_over_cannot_be_stopped() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        worker.next().await.succeed("out");
        kept.ended().await.unwrap();
        let over = kept.stop("too late").await.unwrap_err();
        assert!(
            over.contains("is over") && over.contains(&kept.id) && over.contains("passed"),
            "{over}"
        );
        // As with any job of the frozen protocol, `cancel` does not mind.
        assert_eq!(cancel(&kept.job()).await, Ok(()));
        assert_eq!(kept.info().await.state, "passed");
    });
}

#[test]
fn an_administrator_stops_jobs_of_others() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("example").await;
        let admin = scheduler.admin_endpoint().await;
        let found = find_as_admin(&admin, &kept.id).await.unwrap();
        found.stop("maintenance").await.unwrap();
        let info = kept.ended().await.unwrap();
        assert_eq!(info.state, "cancelled");
        assert!(info.cause_sentence.contains("maintenance"), "{info:?}");
    });
}

#[test]
fn jobs_that_live_as_long_as_their_clients_can_be_found_and_stopped_too() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let attached = keeper.client.submit("attached");
        let outcome = result(&attached.job);
        let id = eventually("the job is listed", async || {
            let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
            jobs.first().map(|job| job.id.clone())
        })
        .await;
        let found = keeper.find(&id).await.unwrap();
        let info = found.info().await;
        assert!(!info.durable);
        assert_eq!(info.stand(), ("queued", 0, ""));
        let mut worker = scheduler.worker("w").await;
        let given = worker.next().await;
        given.write("a line\n");
        assert_eq!(found.info().await.stand(), ("running", 1, "w"));
        found.stop("enough").await.unwrap();
        given.build.cancelled.cancelled().await;
        assert!(outcome.await.is_err());
        let ended = found.ended().await.unwrap();
        assert_eq!(ended.state, "cancelled");
        let (log, _) = follow(&found.job()).await;
        assert_eq!(log, "Building on w\na line\nJob cancelled\n");
    });
}

#[test]
fn a_handle_keeps_no_job_of_the_frozen_protocol_alive() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let attached = keeper.client.submit("attached");
        let mut worker = scheduler.worker("w").await;
        let given = worker.next().await;
        let id = eventually("the job is listed", async || {
            let (jobs, _) = keeper.list(&Query::default()).await.unwrap();
            jobs.first().map(|job| job.id.clone())
        })
        .await;
        let found = keeper.find(&id).await.unwrap();
        drop(attached);
        given.build.cancelled.cancelled().await;
        assert_eq!(found.ended().await.unwrap().state, "cancelled");
    });
}

#[test]
fn it_is_explained_why_a_job_waits() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let waits = keeper.keep("waits").await;
        let explain = async |what: &str, words: &[&str]| {
            let (summary, details) = waits.explain().await.unwrap();
            let all = format!("{summary}\n{}", details.join("\n"));
            for word in words {
                assert!(all.contains(word), "{what}: no {word:?} in {all}");
            }
        };
        // Nobody could ever take it.
        explain("no worker", &["no worker"]).await;
        // A worker that is paused, with who and why.
        let pool = scheduler.pool_admin().await;
        set_active(&pool, "w", false, true).await.unwrap();
        let mut worker = scheduler.leased_worker("w").await;
        explain("paused", &["\"w\"", "admin pause"]).await;
        set_active(&pool, "w", true, false).await.unwrap();
        let given = worker.next().await;
        explain("running", &["w"]).await;
        let behind = keeper.keep("behind").await;
        let (summary, details) = behind.explain().await.unwrap();
        let all = format!("{summary}\n{}", details.join("\n"));
        assert!(all.contains('w'), "{all}");
        given.succeed("");
        waits.ended().await.unwrap();
        explain("over", &["passed"]).await;
    });
}
