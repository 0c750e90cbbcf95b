//! What is tried again, where, how often, and what never is.

use std::time::Duration;

use crate::support::client::{result, whole_log};
use crate::support::leased::{Joining, LeasedGiven, LeasedWorker};
use crate::support::site::{Running, Site};
use crate::support::{eventually, story};

/// Whichever of two workers is given the next job.
async fn either(a: &mut LeasedWorker, b: &mut LeasedWorker) -> (bool, LeasedGiven) {
    tokio::select! {
        given = a.next() => (true, given),
        given = b.next() => (false, given),
    }
}

async fn two_workers(scheduler: &Running) -> (LeasedWorker, LeasedWorker) {
    (
        scheduler.leased_worker("w1").await,
        scheduler.leased_worker("w2").await,
    )
}

#[test]
fn a_job_whose_worker_breaks_down_is_tried_elsewhere_and_its_log_tells() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let (mut w1, mut w2) = two_workers(&scheduler).await;
        let kept = scheduler.keeper().await.keep("example").await;
        let (was_w1, first) = either(&mut w1, &mut w2).await;
        first.write("half of it\n");
        first.break_down("worker-disk-full");
        // Though the first one is free as well, it goes to the other.
        let second = if was_w1 {
            w2.next().await
        } else {
            w1.next().await
        };
        assert_eq!((second.what.as_str(), second.attempt), ("example", 2));
        first.build.settled.cancelled().await;
        second.succeed("out");
        let ended = kept.ended().await.unwrap();
        let names = if was_w1 { ("w1", "w2") } else { ("w2", "w1") };
        assert_eq!(ended.stand(), ("passed", 2, names.1));
        assert_eq!(
            ended.story(),
            [(1, names.0, "worker-disk-full"), (2, names.1, "")]
        );
        assert_eq!(
            ended.attempts[0].cause_sentence,
            "this machine is in trouble"
        );
        let log = whole_log(&kept.job()).await;
        let rest = log.strip_prefix(&first.build.log()).unwrap();
        let note = rest.strip_suffix(&second.build.log()).unwrap();
        assert!(
            note.contains("attempt 1") && note.contains("this machine is in trouble"),
            "{note:?}"
        );
        let start = usize::try_from(ended.attempts[1].log_start).unwrap();
        assert_eq!(&log[start..], second.build.log());
        assert_eq!(ended.log_length, log.len() as u64);
    });
}

#[test]
fn a_job_is_tried_on_the_same_worker_if_there_is_no_other() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut only = scheduler.leased_worker("only").await;
        let kept = scheduler.keeper().await.keep("example").await;
        only.next().await.break_down("engine-away");
        let again = only.next().await;
        assert_eq!(again.attempt, 2);
        again.succeed("out");
        assert_eq!(kept.ended().await.unwrap().stand(), ("passed", 2, "only"));
    });
}

#[test]
fn a_job_is_tried_so_often_and_no_more() {
    story(async {
        let site = Site::with(|config| config.jobs.max_attempts = 2);
        let scheduler = site.start().await;
        let (mut w1, mut w2) = two_workers(&scheduler).await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("example").await;
        either(&mut w1, &mut w2).await.1.break_down("worker-setup");
        either(&mut w1, &mut w2).await.1.break_down("engine-away");
        let ended = kept.ended().await.unwrap();
        assert_eq!((ended.state.as_str(), ended.attempt), ("failed", 2));
        assert_eq!(ended.cause_code, "engine-away");
        assert!(ended.cause_sentence.contains("2 attempts"), "{ended:?}");
        let codes: Vec<_> = ended
            .attempts
            .iter()
            .map(|attempt| attempt.cause_code.as_str())
            .collect();
        assert_eq!(codes, ["worker-setup", "engine-away"]);
        assert!(result(&kept.job()).await.is_err());
        // It is not given out again.
        keeper.keep("next").await;
        assert_eq!(either(&mut w1, &mut w2).await.1.what, "next");
    });
}

#[test]
fn a_build_that_failed_is_never_tried_again() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let (mut w1, mut w2) = two_workers(&scheduler).await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("example").await;
        let (_, given) = either(&mut w1, &mut w2).await;
        given.fail("error: no such file\n");
        let ended = kept.ended().await.unwrap();
        assert_eq!((ended.state.as_str(), ended.attempt), ("failed", 1));
        assert_eq!(ended.cause_code, "build-failed");
        assert_eq!(whole_log(&kept.job()).await, given.build.log());
        given.build.settled.cancelled().await;
        keeper.keep("next").await;
        assert_eq!(either(&mut w1, &mut w2).await.1.what, "next");
    });
}

#[test]
fn a_build_that_failed_on_a_worker_of_the_frozen_protocol_is_never_tried_again() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("frozen").await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("example").await;
        let given = worker.next().await;
        given.fail("error: no such file\n");
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("failed", 1, "frozen"));
        assert_eq!(
            result(&kept.job()).await,
            Err("Failed: Build failed".to_owned())
        );
        assert_eq!(
            whole_log(&kept.job()).await,
            "Building on frozen\nerror: no such file\n"
        );
        keeper.keep("next").await;
        assert_eq!(worker.next().await.what, "next");
    });
}

#[test]
fn a_job_on_a_worker_of_the_frozen_protocol_is_tried_again_as_soon_as_its_connection_is_lost() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut frozen = scheduler.worker("frozen").await;
        let kept = scheduler.keeper().await.keep("example").await;
        let given = frozen.next().await;
        given.write("half of it\n");
        eventually("the log is here", async || {
            (kept.info().await.log_length == "Building on frozen\nhalf of it\n".len() as u64)
                .then_some(())
        })
        .await;
        frozen.vanish().await;
        let mut other = scheduler.leased_worker("other").await;
        let again = other.next().await;
        assert_eq!(again.attempt, 2);
        again.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(
            ended.story(),
            [(1, "frozen", "worker-lost"), (2, "other", "")]
        );
        let log = whole_log(&kept.job()).await;
        assert!(log.starts_with("Building on frozen\nhalf of it\n"), "{log}");
        assert!(log.ends_with(&again.build.log()), "{log}");
    });
}

#[test]
fn a_worker_that_is_away_too_long_loses_its_jobs_and_is_told_when_it_is_back() {
    story(async {
        let site = Site::with(|config| {
            config.ping_interval = Duration::from_millis(200);
            config.ping_timeout = Duration::from_millis(700);
        });
        let scheduler = site.start().await;
        let mut late = scheduler.leased_worker("late").await;
        let kept = scheduler.keeper().await.keep("example").await;
        let given = late.next().await;
        late.vanish().await;
        let mut other = scheduler.leased_worker("other").await;
        let again = other.next().await;
        assert_eq!(again.attempt, 2);
        let joining = Joining::new("late").holding(given.held());
        let (_late, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(!verdicts[0].adopted);
        // What it did meanwhile is nobody's.
        given.succeed("late");
        again.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(
            (ended.stand(), ended.output.as_str()),
            (("passed", 2, "other"), "out")
        );
        assert_eq!(
            ended.story(),
            [(1, "late", "worker-lost"), (2, "other", "")]
        );
    });
}

/// Each attempt takes its worker down.
#[test]
fn a_job_that_kills_its_workers_is_stopped_at_the_bound() {
    story(async {
        let site = Site::with(|config| {
            config.ping_interval = Duration::from_millis(100);
            config.ping_timeout = Duration::from_millis(300);
        });
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("poison").await;
        for number in 1..=3 {
            let mut victim = scheduler.leased_worker(&format!("w{number}")).await;
            let given = victim.next().await;
            assert_eq!((given.what.as_str(), given.attempt), ("poison", number));
            victim.vanish().await;
        }
        let ended = kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("lost", 3, "w3"));
        assert_eq!(ended.cause_code, "worker-lost");
        assert!(ended.cause_sentence.contains("3 attempts"), "{ended:?}");
        assert_eq!(
            ended.story(),
            [
                (1, "w1", "worker-lost"),
                (2, "w2", "worker-lost"),
                (3, "w3", "worker-lost")
            ]
        );
        // Its name is on none of the queues any more.
        let mut next = scheduler.leased_worker("w4").await;
        scheduler.keeper().await.keep("harmless").await;
        assert_eq!(next.next().await.what, "harmless");
    });
}

#[test]
fn a_job_that_is_tried_again_keeps_its_place() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.leased_worker("w").await;
        let keeper = scheduler.keeper().await;
        let kept = keeper.keep("first").await;
        let first = worker.next().await;
        for what in ["second", "third"] {
            keeper.keep(what).await;
        }
        worker.stop_asking();
        first.break_down("worker-setup");
        eventually("the first one is queued again", async || {
            (kept.info().await.stand() == ("queued", 1, "w")).then_some(())
        })
        .await;
        let mut worker = scheduler.leased_worker("other").await;
        for what in ["first", "second", "third"] {
            let given = worker.next().await;
            assert_eq!(given.what, what);
            given.succeed("");
        }
    });
}

#[test]
fn a_log_goes_on_from_attempt_to_attempt_for_those_who_follow_it() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.leased_worker("w").await;
        let kept = scheduler.keeper().await.keep("example").await;
        let job = kept.job();
        let follower = tokio::task::spawn_local(async move { whole_log(&job).await });
        for number in 1..=2 {
            let given = worker.next().await;
            given.write(&format!("of attempt {number}\n"));
            given.break_down("worker-setup");
        }
        let last = worker.next().await;
        last.succeed("out");
        kept.ended().await.unwrap();
        let log = follower.await.unwrap();
        for part in ["of attempt 1\n", "of attempt 2\n", "Job succeeded\n"] {
            assert_eq!(log.matches(part).count(), 1, "{log}");
        }
        assert_eq!(log, whole_log(&kept.job()).await);
    });
}
