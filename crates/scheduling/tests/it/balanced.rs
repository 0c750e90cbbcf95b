//! Where and why the policy `balanced` decides differently from `upstream`.

use ocluster_scheduling::Policy;
use ocluster_scheduling::view::MainView;

use super::env::TestEnv;

/// Scenario 2 of OCluster's suite: there, job3 and job4 wait for w1, whose only slot is taken for an unknown time.
#[test]
fn s02_a_full_worker_keeps_nobody_waiting_for_its_cache() {
    let mut env = TestEnv::balanced();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    for (job, hint) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a"), ("5", "c")] {
        env.submit(&format!("u1:job{job}"), hint);
    }
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job2"));
    env.finish(w2);
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "job3");
}

/// Scenario 3: there, w1 hoards six jobs while w2 gets the last.
#[test]
fn s03_equal_hints_are_spread_in_the_order_of_the_queue() {
    let mut env = TestEnv::balanced();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    for job in 1..=8 {
        env.submit(&format!("u1:job{job}"), "a");
    }
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job2"));
    assert_eq!(env.stats().incoming.low, 6);
}

/// Vector B.2: there, 61 jobs pile up on a while b gets the 62nd.
#[test]
fn b02_nothing_piles_up_on_a_full_worker() {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let (a, b) = (env.worker("a"), env.worker("b"));
    env.submit("u:j0", "h");
    env.pop(a);
    for job in 1..=70 {
        env.submit(&format!("u:j{job}"), "h");
    }
    let pop = env.pop(b);
    assert_eq!(env.got(pop), "j1");
    assert_eq!(env.stats().incoming.low, 69);
}

/// Scenario 8: there, job2 waits behind job1 on w1 although w2 asks for work.
#[test]
fn s08_an_idle_worker_takes_what_a_busy_one_cannot_start() {
    let mut env = TestEnv::balanced();
    let w1 = env.worker("w1");
    env.pop(w1);
    env.submit("u1:job1", "a");
    env.submit("u1:job2", "a");
    env.pump();
    let w2 = env.worker("w2");
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "job2");
}

/// A pool at production costs in which `warm` has run hint `h` and now runs a quick job with it.
fn warm() -> (TestEnv, super::env::W, super::env::W) {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let (warm, cold) = (env.worker("warm"), env.worker("cold"));
    for job in ["u:first", "u:quick"] {
        env.submit(job, "h");
        env.finish(warm);
        env.pop(warm);
    }
    assert_eq!(env.cluster.running(warm.0), 1);
    (env, warm, cold)
}

#[test]
fn a_job_waits_for_a_cache_when_that_is_sooner_and_others_can_run() {
    let (mut env, warm, cold) = warm();
    env.submit("u:cached", "h");
    env.submit("u:other", "x");
    let pop = env.pop(cold);
    assert_eq!(env.got(pop), "other");
    assert_eq!(
        env.line("warm").split('@').next(),
        Some("warm (10): [u:cached")
    );
    env.finish(warm);
    let pop = env.pop(warm);
    assert_eq!(env.got(pop), "cached");
}

#[test]
fn a_job_that_waits_for_a_cache_goes_to_the_first_worker_with_nothing_else_to_do() {
    let (mut env, _, cold) = warm();
    env.submit("u:cached", "h");
    let pop = env.pop(cold);
    assert_eq!(env.got(pop), "cached");
    assert_eq!(
        env.log.last().unwrap(),
        "\"cold\" takes h from the local queue of \"warm\""
    );
    assert_eq!(env.line("warm"), "warm (0): [] (1 running)");
}

#[test]
fn the_best_of_several_waiting_jobs_is_taken_first() {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let (b, a, cold) = (env.worker("b"), env.worker("a"), env.worker("cold"));
    for (worker, hint) in [(a, "for-a"), (b, "for-b")] {
        for round in 0..2 {
            env.submit(&format!("{hint}:{hint}-{round}"), hint);
            env.finish(worker);
            env.pop(worker);
        }
    }
    env.advance(10_000.0);
    env.submit("x:1", "for-b");
    env.submit("y:2", "for-a");
    env.submit("z:3", "elsewhere");
    let pop = env.pop(cold);
    assert_eq!(env.got(pop), "3", "1 and 2 wait for b and a");
    let (first, second) = (env.pop(cold), env.pop(cold));
    assert_eq!((env.got(first), env.got(second)), ("1", "2"));
}

#[test]
fn a_job_does_not_wait_for_a_cache_longer_than_the_cache_is_worth() {
    let (mut env, _, cold) = warm();
    env.submit("u:cached", "h");
    for job in 0..5 {
        env.submit(&format!("u:other{job}"), "x");
    }
    let order = ["other0", "other1", "cached", "other2"];
    for (job, wait) in order.into_iter().zip([589.0, 2.0, 0.0, 0.0]) {
        let pop = env.pop(cold);
        assert_eq!(env.got(pop), job);
        env.advance(wait);
    }
}

#[test]
fn an_urgent_job_waits_for_no_cache() {
    let (mut env, _, cold) = warm();
    env.submit("u:cached!", "h");
    env.submit("u:other", "x");
    let pop = env.pop(cold);
    assert_eq!(env.got(pop), "cached");
}

#[test]
fn an_urgent_job_goes_before_those_that_waited_for_this_very_worker() {
    let (mut env, warm, cold) = warm();
    env.submit("u:cached", "h");
    env.submit("u:other", "x");
    env.pop(cold);
    assert_eq!(env.stats().local[1].1.low, 1);
    env.submit("u:urgent!", "x");
    let (first, second) = (env.pop(warm), env.pop(warm));
    assert_eq!((env.got(first), env.got(second)), ("urgent", "cached"));
}

#[test]
fn an_urgent_job_that_comes_between_wake_and_run_displaces_nobody_for_good() {
    let mut env = TestEnv::balanced();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let p1 = env.pop(w1);
    env.submit("u:chosen", "");
    env.submit("u:urgent!", "");
    env.pump();
    assert_eq!(env.got(p1), "urgent");
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "chosen");
}

#[test]
fn an_idle_worker_with_the_cache_goes_before_one_that_waited_longer() {
    let (mut env, warm, cold) = warm();
    env.finish(warm);
    let (p_cold, p_warm) = (env.pop(cold), env.pop(warm));
    env.submit("u:cached", "h");
    env.submit("u:other", "h");
    env.pump();
    assert_eq!((env.got(p_warm), env.got(p_cold)), ("cached", "other"));
}

#[test]
fn of_two_idle_workers_with_the_cache_the_less_loaded_by_capacity_gets_the_job() {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let (big, small) = (
        env.worker_with("w2-big", 10),
        env.worker_with("w1-small", 2),
    );
    // Both have run h; big then runs three jobs, small one.
    for (worker, jobs) in [(big, 3), (small, 1)] {
        for job in 0..jobs {
            env.submit(&format!("u:{worker:?}{job}"), "h");
            env.pop(worker);
        }
    }
    let (p_small, p_big) = (env.pop(small), env.pop(big));
    env.submit("u:next", "h");
    env.pump();
    assert_eq!((env.got(p_big), env.got(p_small)), ("next", "waiting"));
}

#[test]
fn a_worker_with_a_free_slot_is_worth_waiting_for_even_if_another_asks_first() {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let (warm, cold) = (env.worker_with("warm", 2), env.worker("cold"));
    env.submit("u:first", "h");
    env.pop(warm);
    env.submit("u:cached", "h");
    env.submit("u:other", "x");
    let pop = env.pop(cold);
    assert_eq!(env.got(pop), "other");
    let pop = env.pop(warm);
    assert_eq!(env.got(pop), "cached");
}

#[test]
fn a_worker_that_tells_no_capacity_works_all_the_same() {
    let mut env = TestEnv::balanced();
    let unknown = env.worker_with("unknown", 0);
    for job in ["u:j1", "u:j2", "u:j3"] {
        env.submit(job, "h");
    }
    assert_eq!(env.flush(unknown), "j1 j2 j3");
}

#[test]
fn several_requests_of_one_worker_keep_their_places() {
    let mut env = TestEnv::balanced();
    let (w1, w2) = (env.worker_with("w1", 2), env.worker("w2"));
    let (p1, p2, p3) = (env.pop(w1), env.pop(w1), env.pop(w2));
    env.submit("u:j1", "");
    env.pump();
    env.submit("u:j2", "");
    env.pump();
    assert_eq!(
        (env.got(p1), env.got(p2), env.got(p3)),
        ("j1", "j2", "waiting")
    );
}

#[test]
fn a_paused_workers_jobs_go_to_whoever_waits() {
    let (mut env, warm, cold) = warm();
    env.submit("u:cached", "h");
    env.submit("u:other", "x");
    env.pop(cold);
    let idle = env.worker("idle");
    env.pause(warm);
    assert_eq!(
        env.line("warm"),
        "warm (0): (inactive: worker pause) (1 running)"
    );
    let pop = env.pop(idle);
    assert_eq!(env.got(pop), "cached");
}

#[test]
fn a_worker_about_to_ask_is_worth_waiting_for() {
    let (mut env, warm, cold) = warm();
    let p_warm = env.pop(warm);
    env.pause(warm);
    env.submit("u:cached", "h");
    env.submit("u:other", "x");
    env.resume(warm);
    let p_cold = env.pop(cold);
    env.pump();
    assert_eq!((env.got(p_warm), env.got(p_cold)), ("cached", "other"));
}

#[test]
fn a_job_left_over_on_a_worker_that_took_an_urgent_one_instead_is_free_for_others_at_once() {
    let mut env = TestEnv::balanced();
    let (w1, w2) = (env.worker_with("w1", 2), env.worker("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w1));
    for job in ["u:first", "u:second", "u:urgent!"] {
        env.submit(job, "");
    }
    env.step();
    assert_eq!(env.got(p1), "urgent");
    let p3 = env.pop(w2);
    assert_eq!(env.got(p3), "second");
    env.pump();
    assert_eq!(env.got(p2), "first");
}

/// A pool at production costs in which jobs with hint `h` take 800 seconds, and 80 where it is cached: on `w`.
fn experienced() -> (TestEnv, super::env::W) {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let w = env.worker("w");
    for (job, seconds) in [("first", 800.0), ("second", 80.0)] {
        env.submit(&format!("u:{job}"), "h");
        env.pop(w);
        env.advance(seconds);
        env.end(job);
    }
    (env, w)
}

#[test]
fn a_worker_takes_what_it_has_cached_before_its_turn_if_that_is_near() {
    let (mut env, w) = experienced();
    env.submit("v:other", "x");
    // Each moves the next one back by what these jobs took on average, 710 s, the first one to 720 s after the other.
    for job in ["3", "4", "5", "6", "7"] {
        env.submit(&format!("u:{job}"), "h");
    }
    // The cache saves 720 s, so what is due up to 2,880 s later goes first.
    assert_eq!(env.flush(w), "3 4 5 6 other 7");
}

#[test]
fn nothing_cached_goes_before_an_urgent_job() {
    let (mut env, w) = experienced();
    env.submit("u:cached", "h");
    env.submit("v:urgent!", "x");
    assert_eq!(env.flush(w), "urgent cached");
}

#[test]
fn a_client_pays_for_what_its_jobs_have_taken() {
    let (mut env, _) = experienced();
    for job in ["x:1", "x:2", "x:3"] {
        env.submit(job, "h");
    }
    let view = env.cluster.view(&env.pool).unwrap();
    let MainView::Backlog(jobs) = view.main else {
        panic!("nobody asks");
    };
    let first = env.now();
    let due: Vec<f64> = jobs.iter().map(|j| j.fair_start.since(first)).collect();
    assert_eq!(due, [0.0, 710.0, 1420.0]);
}

#[test]
fn a_job_that_is_over_at_once_teaches_nothing() {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let w = env.worker("w");
    env.submit("u:1", "");
    env.pop(w);
    env.end("1");
    for job in ["u:2", "u:3", "v:4"] {
        env.submit(job, "");
    }
    env.advance(1.0);
    env.submit("v:5", "");
    env.submit("u:6", "");
    assert_eq!(env.flush(w), "4 2 5 3 6");
}

#[test]
fn what_a_worker_ran_long_ago_is_not_waited_for() {
    for (others, expected) in [(5, "other"), (32, "cached")] {
        let (mut env, warm, cold) = warm();
        env.finish(warm);
        for other in 0..others {
            env.submit(&format!("u:{other}"), &format!("hint-{other}"));
            env.pop(warm);
            env.finish(warm);
        }
        env.submit("v:cached", "h");
        env.submit("v:other", "x");
        let pop = env.pop(cold);
        assert_eq!(env.got(pop), expected, "after {others} others");
    }
}

#[test]
fn one_request_does_not_look_for_waiting_room_without_end() {
    let mut env = TestEnv::new(Policy::Balanced, 10, 600);
    let (warm, cold) = (env.worker_with("warm", 100), env.worker("cold"));
    env.submit("u:first", "h");
    env.pop(warm);
    for job in 1..=20 {
        env.submit(&format!("u:j{job}"), "h");
    }
    let pop = env.pop(cold);
    assert_eq!(env.got(pop), "j5");
    assert_eq!(env.stats().local[1].1.low, 4);
}
