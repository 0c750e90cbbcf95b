//! Jobs that come back to the queue, at their old places and rather to other workers; and jobs that workers bring along.

use ocluster_scheduling::{Refusal, WorkerId};

use super::env::{P, TestEnv, W};

fn both() -> [TestEnv; 2] {
    [TestEnv::upstream(), TestEnv::balanced()]
}

fn ask(env: &mut TestEnv, worker: W) -> P {
    let pop = env.pop(worker);
    env.pump();
    pop
}

#[test]
fn a_job_comes_back_to_its_old_place_and_costs_nothing_again() {
    for mut env in both() {
        let w = env.worker("w");
        for job in ["a:a1", "b:b1", "a:a2", "b:b2", "b:urgent!"] {
            env.submit(job, "");
        }
        let owed = env.line("clients");
        for name in ["urgent", "a1"] {
            let pop = ask(&mut env, w);
            assert_eq!(env.got(pop), name);
        }
        env.retry("a1", &[]);
        env.retry("urgent", &[]);
        assert_eq!(env.line("clients"), owed);
        assert_eq!(env.flush(w), "urgent a1 b1 a2 b2");
    }
}

#[test]
fn a_job_that_comes_back_promises_its_cache_again() {
    for mut env in both() {
        env.submit("a:a1", "h");
        env.cancel("a1").unwrap();
        env.requeue("a1", &[]).unwrap();
        env.submit("b:b1", "h");
        assert!(
            env.line("clients").contains("b(1)+2s"),
            "{}",
            env.line("clients")
        );
        env.cancel("a1").unwrap();
        env.cancel("b1").unwrap();
        env.submit("c:c1", "h");
        assert!(
            env.line("clients").contains("c(1)+10s"),
            "{}",
            env.line("clients")
        );
    }
}

#[test]
fn a_job_goes_to_another_worker_than_the_one_it_failed_on() {
    for mut env in both() {
        let (bad, good) = (env.worker("bad"), env.worker("good"));
        env.submit("u:job", "h");
        let first = ask(&mut env, bad);
        assert_eq!(env.got(first), "job");
        env.retry("job", &["bad"]);
        env.submit("u:next", "");
        let second = ask(&mut env, bad);
        assert_eq!(env.got(second), "next", "passes the job over");
        let idle = ask(&mut env, bad);
        assert_eq!(env.got(idle), "waiting");
        assert_eq!(env.line("queue"), "queue: (backlog) [u:job@0s]");
        let third = ask(&mut env, good);
        assert_eq!(env.got(third), "job");
    }
}

#[test]
fn a_waiting_worker_is_not_given_what_failed_on_it() {
    for mut env in both() {
        let (bad, good) = (env.worker("bad"), env.worker("good"));
        env.submit("u:job", "h");
        env.flush(bad);
        let waits_longest = ask(&mut env, bad);
        let waits = ask(&mut env, good);
        env.requeue("job", &["bad"]).unwrap();
        env.pump();
        assert_eq!((env.got(waits_longest), env.got(waits)), ("waiting", "job"));
    }
}

#[test]
fn a_pool_of_one_worker_still_retries() {
    for mut env in both() {
        let w = env.worker("w");
        env.submit("u:job", "");
        let first = ask(&mut env, w);
        assert_eq!(env.got(first), "job");
        let waiting = ask(&mut env, w);
        env.retry("job", &["w"]);
        env.pump();
        assert_eq!(env.got(waiting), "job");
    }
}

#[test]
fn an_avoided_worker_is_woken_when_the_last_other_one_goes() {
    type Goes = fn(&mut TestEnv, W);
    let ways: [Goes; 3] = [
        |env, good| env.pause(good),
        |env, good| env.leave(good),
        |env, _| env.admin("good", false).unwrap(),
    ];
    for goes in ways {
        for mut env in both() {
            let (bad, good) = (env.worker("bad"), env.worker("good"));
            env.submit("u:job", "h");
            env.flush(bad);
            let waiting = ask(&mut env, bad);
            env.requeue("job", &["bad", "never seen"]).unwrap();
            env.pump();
            assert_eq!(env.got(waiting), "waiting");
            goes(&mut env, good);
            env.pump();
            assert_eq!(env.got(waiting), "job");
        }
    }
}

#[test]
fn an_avoided_worker_lets_go_when_another_one_comes_before_it_took_the_job() {
    for mut env in both() {
        let bad = env.worker("bad");
        let good = env.register("good");
        env.submit("u:job", "h");
        env.flush(bad);
        let chosen = ask(&mut env, bad);
        env.requeue("job", &["bad"]).unwrap();
        env.resume(good);
        env.pump();
        assert_eq!(env.got(chosen), "waiting");
        let better = ask(&mut env, good);
        assert_eq!(env.got(better), "job");
    }
}

#[test]
fn what_a_worker_leaves_for_a_job_that_came_back_goes_to_the_one_that_waits() {
    let mut env = TestEnv::balanced();
    let (good, bad) = (env.worker("good"), env.worker("bad"));
    env.submit("u:back", "");
    env.flush(bad);
    let chosen = env.pop(good);
    env.submit("u:new", "");
    let waiting = env.pop(bad);
    // The one is about to take the new job when the old one comes back, which the other must not have.
    env.requeue("back", &["bad"]).unwrap();
    env.pump();
    assert_eq!((env.got(chosen), env.got(waiting)), ("back", "new"));
}

#[test]
fn a_job_that_is_queued_or_running_cannot_come_back() {
    for mut env in both() {
        let w = env.worker("w");
        env.submit("u:running", "");
        ask(&mut env, w);
        env.submit("u:queued", "");
        for name in ["queued", "running"] {
            assert_eq!(env.requeue(name, &[]), Err(Refusal::NumberReused));
            assert_eq!(env.adopt(w, name), Err(Refusal::NumberReused));
        }
    }
}

#[test]
fn a_worker_brings_its_jobs_along_after_a_restart() {
    for mut env in both() {
        let w = env.worker_with("w", 2);
        env.submit("u:kept", "h");
        ask(&mut env, w);
        env.restart();
        let w = env.register_with("w", 2).unwrap();
        env.adopt(w, "kept").unwrap();
        assert_eq!(
            env.line("w"),
            "w (0): (inactive: worker pause) (1 running)",
            "before it even asks for more"
        );
        assert_eq!(env.line("cached"), "cached: h: [w]");
        env.resume(w);
        assert_eq!(env.cancel("kept"), Err(Refusal::NotQueued));
        env.finish(w);
        assert_eq!(env.line("w"), "w (0): [] (0 running)");
    }
}

#[test]
fn what_a_worker_brings_along_counts_when_work_is_shared_out() {
    let mut env = TestEnv::balanced();
    env.submit("u:kept", "h");
    env.cancel("kept").unwrap();
    let (full, free) = (env.worker("full"), env.worker("free"));
    env.submit("u:warm", "h");
    env.flush(free);
    env.adopt(full, "kept").unwrap();
    // Both have the cache and wait; the one that runs nothing is better off.
    let (_, second) = (ask(&mut env, full), ask(&mut env, free));
    env.submit("u:next", "h");
    env.pump();
    assert_eq!(env.got(second), "next");
}

#[test]
fn a_worker_that_is_gone_brings_nothing_along() {
    let mut env = TestEnv::balanced();
    env.submit("u:job", "");
    env.cancel("job").unwrap();
    let w = env.worker("w");
    env.leave(w);
    assert_eq!(env.adopt(w, "job"), Err(Refusal::QueueClosed));
    assert_eq!(
        env.adopt(W(WorkerId(999)), "job"),
        Err(Refusal::QueueClosed)
    );
}
