//! The fifteen scheduling scenarios of OCluster's own suite, under the policy `upstream`.
//!
//! Costs are 2 and 10, the clock stands at 1. The one intended difference, that an assignment takes the worker off the
//! ready list at once, changes no state shown here, because no scenario assigns twice to a worker in one turn.

use ocluster_scheduling::{Event, Refusal};

use super::env::TestEnv;

#[test]
fn s01_simple() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    for job in ["u1:job1", "u1:job2", "u1:job3"] {
        env.submit(job, "");
    }
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job2"));
    env.leave(w2);
    assert_eq!(env.flush(w1), "job3");
}

#[test]
fn s02_cached_scheduling() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    env.shows(
        "capacity: 2
         queue: (ready) [w2 w1]
         registered:
           w1 (0): [] (0 running)
           w2 (0): [] (0 running)
         disconnected:
         clients:
         cached:",
    );
    env.rate("u1", 2.0);
    for (job, hint) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a"), ("5", "c")] {
        env.submit(&format!("u1:job{job}"), hint);
    }
    env.shows(
        "capacity: 2
         queue: (backlog) [u1:job5@12s u1:job4@11s u1:job3@10s]
         registered:
           w1 (10): [u1:job1@0s(10)] (0 running)
           w2 (10): [u1:job2@5s(10)] (0 running)
         disconnected:
         clients: u1(2)+17s
         cached: a: [w1], b: [w2]",
    );
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job2"));
    env.shows(
        "capacity: 2
         queue: (backlog) [u1:job5@12s u1:job4@11s u1:job3@10s]
         registered:
           w1 (0): [] (1 running)
           w2 (0): [] (1 running)
         disconnected:
         clients: u1(2)+17s
         cached: a: [w1], b: [w2]",
    );
    env.finish(w2);
    let p2 = env.pop(w2);
    assert_eq!(
        env.got(p2),
        "job5",
        "the jobs before it wait for w1's cache"
    );
    env.shows(
        "capacity: 2
         queue: (backlog) []
         registered:
           w1 (4): [u1:job4@11s(2) u1:job3@10s(2)] (1 running)
           w2 (0): [] (1 running)
         disconnected:
         clients: u1(2)+17s
         cached: a: [w1], b: [w2], c: [w2]",
    );
    env.finish(w2);
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "waiting");
    env.leave(w1);
    env.pump();
    assert_eq!(env.got(p2), "job3");
    env.shows(
        "capacity: 1
         queue: (backlog) [u1:job4@11s]
         registered:
           w2 (0): [] (1 running)
         disconnected:
           w1
         clients: u1(2)+17s
         cached: a: [w1; w2], b: [w2], c: [w2]",
    );
    env.finish(w2);
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "job4");
    env.advance(20.0);
    env.leave(w2);
    env.shows(
        "capacity: 0
         queue: (backlog) []
         registered:
         disconnected:
           w1
           w2
         clients: u1(2)
         cached: a: [w1; w2], b: [w2], c: [w2]",
    );
}

#[test]
fn s03_unbalanced() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    env.rate("u1", 2.0);
    for job in 1..=8 {
        env.submit(&format!("u1:job{job}"), "a");
    }
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job8"));
    env.shows(
        "capacity: 2
         queue: (backlog) []
         registered:
           w1 (12): [u1:job7@10s(2) u1:job6@9s(2) u1:job5@8s(2) u1:job4@7s(2)
                     u1:job3@6s(2) u1:job2@5s(2)] (1 running)
           w2 (0): [] (1 running)
         disconnected:
         clients: u1(2)+12s
         cached: a: [w1; w2]",
    );
    env.leave(w1);
    assert_eq!(env.flush(w2), "job2 job3 job4 job5 job6 job7");
}

#[test]
fn s04_no_workers() {
    let mut env = TestEnv::upstream();
    env.submit("u1:job1", "a");
    env.submit("u1:job2", "a");
    let w1 = env.worker("w1");
    let p1 = env.pop(w1);
    env.leave(w1);
    env.pump();
    assert_eq!(env.got(p1), "job1");
    env.shows(
        "capacity: 0
         queue: (backlog) [u1:job2@10s]
         registered:
         disconnected:
           w1
         clients: u1(1)+12s
         cached: a: [w1]",
    );
    let w1 = env.worker("w1");
    assert_eq!(env.flush(w1), "job2");
}

#[test]
fn s05_persist() {
    let mut env = TestEnv::upstream();
    let w1 = env.worker("w1");
    let p1 = env.pop(w1);
    env.submit("u1:job1", "a");
    env.pump();
    assert_eq!(env.got(p1), "job1");
    env.leave(w1);
    env.restart();
    let (w2, w1) = (env.worker("w2"), env.worker("w1"));
    let (p2, p1) = (env.pop(w2), env.pop(w1));
    env.submit("u1:job2", "a");
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job2", "waiting"));
}

#[test]
fn s06_urgent() {
    let mut env = TestEnv::upstream();
    let w1 = env.worker("w1");
    env.submit("u1:job1", "a");
    env.submit("u1:job2!", "a");
    env.submit("u1:job3!", "a");
    env.submit("u1:job4", "b");
    let p1 = env.pop(w1);
    assert_eq!(env.got(p1), "job2");
    let w2 = env.worker("w2");
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "job4", "job3 and job1 wait for w1's cache");
    assert_eq!(
        env.line("w1"),
        "w1 (4): [u1:job1@0s(2) u1:job3@12s(2+urgent)] (1 running)"
    );
    env.leave(w1);
    env.shows(
        "capacity: 1
         queue: (backlog) [u1:job1@0s u1:job3@12s+urgent]
         registered:
           w2 (0): [] (1 running)
         disconnected:
           w1
         clients: u1(1)+24s
         cached: a: [w1], b: [w2]",
    );
    env.submit("u1:job5!", "b");
    assert_eq!(env.flush(w2), "job3 job5 job1");
}

#[test]
fn s07_urgent_worker() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    env.submit("u1:job1!", "a");
    env.submit("u1:job2", "a");
    env.submit("u1:job3", "b");
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job3"));
    env.shows(
        "capacity: 2
         queue: (backlog) []
         registered:
           w1 (2): [u1:job2@10s(2)] (1 running)
           w2 (0): [] (1 running)
         disconnected:
         clients: u1(1)+22s
         cached: a: [w1], b: [w2]",
    );
    env.rate("u1", 2.0);
    env.submit("u1:job4!", "a");
    env.submit("u1:job5", "b");
    env.submit("u1:job6!", "a");
    let p2 = env.pop(w2);
    assert_eq!(env.got(p2), "job5");
    env.shows(
        "capacity: 2
         queue: (backlog) []
         registered:
           w1 (6): [u1:job2@10s(2) u1:job6@24s(2+urgent) u1:job4@22s(2+urgent)] (1 running)
           w2 (0): [] (2 running)
         disconnected:
         clients: u1(2)+25s
         cached: a: [w1], b: [w2]",
    );
    assert_eq!(env.flush(w1), "job4 job6 job2");
}

#[test]
fn s08_inactive() {
    let mut env = TestEnv::upstream();
    let w1 = env.worker("w1");
    let p1 = env.pop(w1);
    env.submit("u1:job1", "a");
    env.submit("u1:job2", "a");
    env.pump();
    let w2 = env.worker("w2");
    let p2 = env.pop(w2);
    env.pump();
    env.shows(
        "capacity: 2
         queue: (ready) [w2]
         registered:
           w1 (2): [u1:job2@10s(2)] (1 running)
           w2 (0): [] (0 running)
         disconnected:
         clients: u1(1)+12s
         cached: a: [w1]",
    );
    env.pause(w1);
    env.shows(
        "capacity: 2
         queue: (ready) []
         registered:
           w1 (0): (inactive: worker pause) (1 running)
           w2 (10): [u1:job2@10s(10)] (0 running)
         disconnected:
         clients: u1(1)+12s
         cached: a: [w1; w2]",
    );
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "job2"));
    env.rate("u1", 2.0);
    env.submit("u1:job3", "a");
    env.pause(w2);
    env.shows(
        "capacity: 2
         queue: (backlog) [u1:job3@12s]
         registered:
           w1 (0): (inactive: worker pause) (1 running)
           w2 (0): (inactive: worker pause) (1 running)
         disconnected:
         clients: u1(2)+13s
         cached: a: [w1; w2]",
    );
    env.resume(w2);
    env.leave(w1);
    assert_eq!(env.flush(w2), "job3");
}

#[test]
fn s09_cancel_worker_queue() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    env.rate("u1", 2.0);
    env.submit("u1:job1", "a");
    env.pump();
    env.submit("u1:job2", "a");
    env.submit("u1:job3", "a");
    env.submit("u1:job4", "b");
    env.cancel("job4").unwrap();
    env.shows(
        "capacity: 2
         queue: (ready) []
         registered:
           w1 (4): [u1:job3@6s(2) u1:job2@5s(2)] (1 running)
           w2 (0): [] (0 running)
         disconnected:
         clients: u1(2)+12s
         cached: a: [w1], b: [w2]",
    );
    env.cancel("job2").unwrap();
    assert_eq!(env.line("w1"), "w1 (2): [u1:job3@6s(2)] (1 running)");
    env.leave(w2);
    env.pause(w1);
    env.shows(
        "capacity: 1
         queue: (backlog) [u1:job3@6s]
         registered:
           w1 (0): (inactive: worker pause) (1 running)
         disconnected:
           w2
         clients: u1(2)+12s
         cached: a: [w1], b: [w2]",
    );
    env.cancel("job3").unwrap();
    assert_eq!(env.cancel("job3"), Err(Refusal::NotQueued));
    env.leave(w1);
    env.shows(
        "capacity: 0
         queue: (backlog) []
         registered:
         disconnected:
           w1
           w2
         clients: u1(2)+12s
         cached: a: [w1], b: [w2]",
    );
    // OCluster's request of w2 would notice on its next turn; ours is told at once.
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "disconnected"));
}

#[test]
fn s10_push_back() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.register("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    env.rate("u1", 2.0);
    env.submit("u1:job1", "a");
    env.pump();
    env.submit("u1:job2", "a");
    env.submit("u1:job3", "a");
    env.resume(w2);
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("job1", "waiting"));
    env.shows(
        "capacity: 2
         queue: (ready) [w2]
         registered:
           w1 (4): [u1:job3@6s(2) u1:job2@5s(2)] (1 running)
           w2 (0): [] (0 running)
         disconnected:
         clients: u1(2)+7s
         cached: a: [w1]",
    );
    env.leave(w2);
    env.pause(w1);
    assert_eq!(
        env.line("queue"),
        "queue: (backlog) [u1:job3@6s u1:job2@5s]"
    );
    env.resume(w1);
    assert_eq!(env.flush(w1), "job2 job3");
}

/// Alice and Bob submit three jobs each while two workers wait.
fn alice_and_bob(alice: f64, bob: f64) -> (TestEnv, String) {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let (p1, p2) = (env.pop(w1), env.pop(w2));
    env.rate("alice", alice);
    env.rate("bob", bob);
    for job in [
        "alice:a1", "alice:a2", "alice:a3", "bob:b1", "bob:b2", "bob:b3",
    ] {
        env.submit(job, "");
    }
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("a1", "a2"));
    let state = env.dump();
    env.leave(w2);
    let order = env.flush(w1);
    assert_eq!(
        env.line("cached"),
        "cached: : [w1; w2]",
        "a row for the empty hint does no harm"
    );
    (env, format!("{state}\n{order}"))
}

#[test]
fn s11_fairness() {
    let (_, story) = alice_and_bob(2.0, 2.0);
    let lines: Vec<&str> = story.lines().collect();
    assert_eq!(
        lines[1],
        "queue: (backlog) [bob:b3@10s alice:a3@10s bob:b2@5s bob:b1@0s]"
    );
    assert_eq!(lines[6], "clients: alice(2)+15s bob(2)+15s");
    assert_eq!(lines[8], "b1 b2 a3 b3");
}

#[test]
fn s12_fairness_rates() {
    let (_, story) = alice_and_bob(5.0, 1.0);
    let lines: Vec<&str> = story.lines().collect();
    assert_eq!(
        lines[1],
        "queue: (backlog) [bob:b3@20s bob:b2@10s alice:a3@4s bob:b1@0s]"
    );
    assert_eq!(lines[6], "clients: alice(5)+6s bob(1)+30s");
    assert_eq!(lines[8], "b1 a3 b2 b3");
}

#[test]
fn s13_inactive_reasons() {
    let mut env = TestEnv::upstream();
    let w1 = env.register("w1");
    let sees = |env: &TestEnv, reasons: &str| {
        assert_eq!(env.line("w1"), format!("w1 (0): {reasons} (0 running)"));
    };
    sees(&env, "(inactive: worker pause)");
    env.admin("w1", false).unwrap();
    sees(&env, "(inactive: worker pause, admin pause)");
    env.resume(w1);
    sees(&env, "(inactive: admin pause)");
    env.admin("w1", true).unwrap();
    sees(&env, "[]");
    env.event(Event::ShuttingDown { worker: w1.0 }).unwrap();
    sees(&env, "(inactive: shutting down)");
}

#[test]
fn s14_persist_pause() {
    let mut env = TestEnv::upstream();
    let w1 = env.register("w1");
    env.admin("w1", false).unwrap();
    env.event(Event::ShuttingDown { worker: w1.0 }).unwrap();
    let all = "w1 (0): (inactive: worker pause, admin pause, shutting down) (0 running)";
    assert_eq!(env.line("w1"), all);
    env.resume(w1);
    env.leave(w1);
    assert_eq!(env.line("w1"), "w1 (paused)");
    let w1 = env.register("w1");
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause, admin pause) (0 running)"
    );
    env.admin("w1", true).unwrap();
    env.leave(w1);
    let w1 = env.register("w1");
    env.resume(w1);
    assert_eq!(env.line("w1"), "w1 (0): [] (0 running)");
}

#[test]
fn s15_forget() {
    let mut env = TestEnv::upstream();
    let w1 = env.worker("w1");
    assert_eq!(env.forget("w1"), Err(Refusal::StillConnected("w1".into())));
    env.leave(w1);
    assert_eq!(env.forget("w1"), Ok(()));
    assert_eq!(env.forget("w1"), Err(Refusal::UnknownWorker));
    env.shows(
        "capacity: 0
         queue: (backlog) []
         registered:
         disconnected:
         clients:
         cached:",
    );
}
