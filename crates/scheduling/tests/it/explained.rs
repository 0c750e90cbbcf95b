//! What is said of a job that waits.

use ocluster_scheduling::{
    Config, Explanation, PauseNote, Policy, PoolConfig, Reason, Reasons, RunningQuota, Waits,
    WhyNot,
};

use super::env::TestEnv;

fn workers(explanation: &Explanation) -> Vec<(&str, WhyNot)> {
    let workers = explanation.workers.iter();
    workers
        .map(|(name, why)| (name.as_str(), why.clone()))
        .collect()
}

#[test]
fn a_job_on_the_main_queue_is_told_who_is_ahead_and_what_each_worker_does() {
    for mut env in [TestEnv::upstream(), TestEnv::balanced()] {
        let gone = env.worker("gone");
        env.leave(gone);
        let barred = env.worker("barred");
        env.leave(barred);
        env.admin("barred", false).unwrap();
        let busy = env.worker_with("busy", 4);
        env.submit("x:running", "");
        env.pop(busy);
        let stopped = env.worker("stopped");
        env.pause_because(stopped, "the disk is full");
        env.admin_pause("stopped", "ann", "so it is");
        for job in ["a:a1", "a:a2", "b:b1", "a:now!", "a:job", "b:b2"] {
            env.submit(job, "");
        }
        let told = env.explain("job").unwrap();
        assert_eq!(told.waits, Waits::Main);
        assert_eq!((told.ahead, told.more_ahead), (5, false));
        let ahead_of = [("a".into(), 3), ("b".into(), 2)];
        assert_eq!(told.ahead_of, ahead_of);
        assert_eq!(told.fair_start, env.now().plus(30.0));
        let view = env.cluster.view(&env.pool).unwrap();
        assert_eq!(
            workers(&told),
            [
                ("barred", WhyNot::Disconnected { paused: true }),
                (
                    "busy",
                    WhyNot::Busy {
                        running: 1,
                        capacity: 4
                    }
                ),
                ("gone", WhyNot::Disconnected { paused: false }),
                (
                    "stopped",
                    WhyNot::Inactive {
                        reasons: Reasons::NONE
                            .with(Reason::WorkerPause)
                            .with(Reason::AdminPause),
                        note: PauseNote::new("the disk is full"),
                        pause: view.workers[1].pause.clone(),
                    }
                ),
            ]
        );
        assert_eq!(told.more_workers, 0);
    }
}

#[test]
fn a_job_is_told_which_worker_was_chosen_and_which_it_avoids() {
    let mut env = TestEnv::upstream();
    let w = env.worker("w");
    env.submit("a:first", "h");
    env.pop(w);
    let other = env.worker("other");
    for job in ["a:one", "a:two"] {
        env.submit(job, "h");
    }
    let idle = env.pop(other);
    assert_eq!(env.got(idle), "waiting", "both wait for the cache");
    let told = env.explain("two").unwrap();
    assert_eq!(told.waits, Waits::Local("w".into()));
    assert_eq!((told.ahead, told.ahead_of), (1, vec![("a".into(), 1)]));
    env.withdraw(idle);
    env.retry("first", &["w"]);
    let told = env.explain("first").unwrap();
    assert_eq!(told.waits, Waits::Main);
    let avoided = ("w", WhyNot::Avoided);
    let busy = WhyNot::Busy {
        running: 0,
        capacity: 1,
    };
    assert_eq!(workers(&told), [("other", busy), avoided]);
    env.pop(other);
    assert_eq!(env.explain("first"), None, "it is not queued any more");
}

#[test]
fn a_job_that_is_about_to_be_taken_is_told_so() {
    let mut env = TestEnv::balanced();
    let w = env.worker_with("w", 2);
    let _pops = (env.pop(w), env.pop(w));
    env.submit("a:one", "");
    env.submit("a:two", "");
    let why = |job| env.explain(job).unwrap().workers[0].1.clone();
    assert_eq!(why("one"), WhyNot::Free);
    assert_eq!(why("two"), WhyNot::HasOthers { queued: 1 });
}

#[test]
fn a_held_job_is_told_its_clients_bound() {
    let name = "pool".into();
    let policy = Policy::Balanced;
    let mut env = TestEnv::of(Config {
        pools: vec![PoolConfig { name, policy }],
        max_running: RunningQuota {
            general: Some(1),
            ..RunningQuota::default()
        },
        ..Config::default()
    });
    for job in ["a:1", "b:2", "a:3", "a:4"] {
        env.submit(job, "");
    }
    let told = env.explain("4").unwrap();
    assert_eq!(told.waits, Waits::Quota(1));
    assert_eq!((told.ahead, told.ahead_of), (1, vec![("a".into(), 1)]));
}

#[test]
fn what_is_said_is_bounded() {
    let mut env = TestEnv::balanced();
    for worker in 0..=Explanation::MOST_WORKERS {
        env.register(&format!("w{worker}"));
    }
    for job in 0..=Explanation::MOST_AHEAD {
        env.submit(&format!("c{}:{job}", job % 20), "");
    }
    env.submit("z:last", "");
    let told = env.explain("last").unwrap();
    assert_eq!(
        (told.ahead, told.more_ahead),
        (20, false),
        "their first ones"
    );
    env.advance(1e9);
    env.submit("z:last", "");
    let told = env.explain("last").unwrap();
    assert_eq!(told.ahead, Explanation::MOST_AHEAD as u64);
    assert!(told.more_ahead);
    assert_eq!(told.ahead_of.len(), Explanation::MOST_CLIENTS);
    assert_eq!(told.workers.len(), Explanation::MOST_WORKERS);
    assert_eq!(told.more_workers, 1);
}
