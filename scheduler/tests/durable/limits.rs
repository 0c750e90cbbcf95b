//! Time: how long a job may run, wait, and be silent.

use std::time::Duration;

use ocluster_scheduler::config::LimitRange;

use crate::support::client::{result, whole_log};
use crate::support::keeper::Wanted;
use crate::support::site::Site;
use crate::support::story;

fn range(default: Option<u64>, max: Option<u64>) -> LimitRange {
    LimitRange {
        default: default.map(Duration::from_millis),
        max: max.map(Duration::from_millis),
    }
}

#[test]
fn a_job_that_runs_too_long_is_timed_out() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.leased_worker("w").await;
        let wanted = Wanted::new("slow").limits(300, 0, 0);
        let kept = scheduler.keeper().await.submit(&wanted).await.unwrap();
        assert_eq!(kept.info().await.limits, (300, 0, 0));
        let given = worker.next().await;
        let outcome = result(&kept.job());
        given.build.cancelled.cancelled().await;
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("timed-out", 1, "w"));
        assert_eq!(ended.cause_code, "running-time-limit");
        assert!(outcome.await.is_err());
        assert!(ended.ended_at - ended.started_at >= 300, "{ended:?}");
        // Never tried again, and the worker is free for others.
        scheduler.keeper().await.keep("next").await;
        assert_eq!(worker.next().await.what, "next");
    });
}

#[test]
fn a_job_that_waits_too_long_is_timed_out() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let wanted = Wanted::new("waits").limits(0, 200, 0);
        let kept = scheduler.keeper().await.submit(&wanted).await.unwrap();
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("timed-out", 0, ""));
        assert_eq!(ended.cause_code, "queued-time-limit");
        scheduler.keeper().await.keep("next").await;
        let mut worker = scheduler.leased_worker("w").await;
        assert_eq!(worker.next().await.what, "next");
    });
}

#[test]
fn a_job_that_says_nothing_for_too_long_is_timed_out_and_one_that_talks_is_not() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.leased_worker("w").await;
        let keeper = scheduler.keeper().await;
        let wanted = Wanted::new("talks").limits(0, 0, 1500);
        let talks = keeper.submit(&wanted).await.unwrap();
        let given = worker.next().await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            given.write("still here\n");
        }
        given.succeed("out");
        assert_eq!(talks.ended().await.unwrap().state, "passed");
        let wanted = Wanted::new("silent").limits(0, 0, 300);
        let silent = keeper.submit(&wanted).await.unwrap();
        let given = worker.next().await;
        given.build.cancelled.cancelled().await;
        let ended = silent.ended().await.unwrap();
        assert_eq!(ended.stand(), ("timed-out", 1, "w"));
        assert_eq!(ended.cause_code, "silent-time-limit");
        let log = whole_log(&silent.job()).await;
        assert!(
            given.build.log().starts_with(&log) && !log.is_empty(),
            "{log}"
        );
    });
}

#[test]
fn a_pool_has_limits_for_those_who_ask_for_none_and_more_is_refused() {
    story(async {
        let site = Site::with(|config| {
            config.jobs.limits.running = range(Some(60_000), Some(120_000));
            config.jobs.limits.queued = range(None, Some(90_000));
        });
        let scheduler = site.start().await;
        let keeper = scheduler.keeper().await;
        let plain = keeper.keep("plain").await;
        assert_eq!(plain.info().await.limits, (60_000, 90_000, 0));
        let wanted = Wanted::new("asks").limits(120_000, 5000, 7000);
        let asks = keeper.submit(&wanted).await.unwrap();
        assert_eq!(asks.info().await.limits, (120_000, 5000, 7000));
        let wanted = Wanted::new("asks too much").limits(120_001, 0, 0);
        let refused = keeper.submit(&wanted).await.err().unwrap();
        assert!(
            refused.contains("running") && refused.contains("2 min") || refused.contains("2m"),
            "{refused}"
        );
    });
}

#[test]
fn the_time_on_the_worker_counts_through_a_restart() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.leased_worker("w").await;
        let wanted = Wanted::new("slow").limits(1500, 0, 0);
        let kept = scheduler.keeper().await.submit(&wanted).await.unwrap();
        let _given = worker.next().await;
        scheduler.stop().await;
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.find(&kept.id).await.unwrap();
        // Nobody brings it back: it is timed out all the same, well before the worker is given up.
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("timed-out", 1, "w"));
    });
}
