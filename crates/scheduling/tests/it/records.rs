//! What is remembered, when, and what comes of it after a restart.

use ocluster_scheduling::{Config, Costs, Day, Effect, Event, JobId, Policy, PoolConfig, Record};

use super::env::TestEnv;

const DAY: f64 = 86_400.0;

#[test]
fn a_hint_is_recorded_once_a_day() {
    let mut env = TestEnv::balanced();
    let w = env.worker("w");
    env.records.clear();
    for round in 0..4 {
        env.submit(&format!("u:j{round}"), "h");
        env.flush(w);
        env.advance(DAY / 2.0);
    }
    let days = env.records.iter().filter_map(|record| match record {
        Record::CachedHint {
            day, hint, worker, ..
        } => Some((*day, hint.as_str(), worker.as_str())),
        Record::Debt { .. } => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(
        days.collect::<Vec<_>>(),
        [(Day(0), "h", "w"), (Day(1), "h", "w")]
    );
}

#[test]
fn an_old_hint_expires() {
    let pools = vec![PoolConfig {
        name: "pool".into(),
        policy: Policy::Balanced,
    }];
    let mut env = TestEnv::of(Config {
        pools,
        costs: Costs::default(),
        hint_max_age: Some(2),
        ..Config::default()
    });
    let w = env.worker("w");
    env.submit("u:j1", "old");
    env.submit("u:j2", "kept");
    env.flush(w);
    env.advance(2.0 * DAY);
    env.submit("u:j3", "kept");
    env.flush(w);
    env.event(Event::Tick).unwrap();
    assert_eq!(
        env.line("cached"),
        "cached: kept: [w], old: [w]",
        "two days are not too old"
    );
    env.advance(DAY);
    env.event(Event::Tick).unwrap();
    assert_eq!(env.line("cached"), "cached: kept: [w]");
    env.restart();
    assert_eq!(
        env.line("cached"),
        "cached: kept: [w]",
        "the store was told"
    );
}

#[test]
fn pauses_rates_and_forgotten_workers_survive_a_restart() {
    let mut env = TestEnv::balanced();
    for name in ["kept", "paused", "forgotten"] {
        let worker = env.worker(name);
        if name == "paused" {
            env.admin(name, false).unwrap();
        }
        env.leave(worker);
    }
    env.forget("forgotten").unwrap();
    env.rate("u", 5.0);
    env.restart();
    env.submit("u:j", "");
    env.shows(
        "capacity: 0
         queue: (backlog) [u:j@0s]
         registered:
         disconnected:
           kept
           paused (paused)
         clients: u(5)+2s
         cached:",
    );
}

#[test]
fn a_worker_never_seen_can_be_created_paused() {
    let mut env = TestEnv::balanced();
    let (pool, name) = (env.pool.clone(), "new".into());
    env.event(Event::AdminActive {
        pool,
        name,
        active: false,
        auto_create: true,
        pause: None,
    })
    .unwrap();
    assert_eq!(env.line("new"), "new (paused)");
    let worker = env.worker("new");
    assert_eq!(
        env.line("new"),
        "new (0): (inactive: admin pause) (0 running)"
    );
    env.admin("new", true).unwrap();
    assert_eq!(
        env.cluster
            .reasons(worker.0)
            .map(|reasons| reasons.is_empty()),
        Some(true)
    );
}

#[test]
fn nothing_is_recorded_that_did_not_change() {
    let mut env = TestEnv::balanced();
    let worker = env.worker("w");
    env.admin("w", false).unwrap();
    env.leave(worker);
    env.records.clear();
    env.admin("w", false).unwrap();
    env.worker("w");
    assert_eq!(env.records, []);
}

#[test]
fn debts_survive_a_restart() {
    let mut env = TestEnv::balanced();
    env.rate("a", 2.0);
    for job in ["a:1", "a:2", "b:3"] {
        env.submit(job, "");
    }
    let owed = "clients: a(2)+10s b(1)+10s";
    assert_eq!(env.line("clients"), owed);
    env.restart();
    assert_eq!(env.line("clients"), "clients:", "nobody was seen yet");
    env.advance(4.0);
    env.submit("b:4", "");
    assert_eq!(env.line("clients"), "clients: b(1)+16s");
    assert_eq!(env.line("queue"), "queue: (backlog) [b:4@6s]");
    env.requeue("1", &[]).unwrap();
    assert_eq!(env.line("clients"), "clients: a(2)+6s b(1)+16s");
}

#[test]
fn a_client_that_was_removed_owes_nothing_after_a_restart() {
    let mut env = TestEnv::balanced();
    env.submit("a:1", "");
    let client = "a".into();
    env.event(Event::ClientRemoved { client }).unwrap();
    env.restart();
    env.submit("a:2", "");
    assert_eq!(env.line("clients"), "clients: a(1)+10s");
}

#[test]
fn a_job_is_announced_and_its_cost_recorded_before_it_goes_anywhere() {
    let mut env = TestEnv::balanced();
    let w = env.worker("w");
    env.pop(w);
    let event = Event::Submitted {
        pool: env.pool.clone(),
        client: "a".into(),
        job: JobId(99),
        hint: "h".into(),
        urgent: false,
    };
    let effects = env.cluster.handle(env.now(), event).list;
    let fair_start = env.now();
    let job = JobId(99);
    assert_eq!(effects[0], Effect::Queued { job, fair_start });
    let debt = Record::Debt {
        pool: env.pool.clone(),
        client: "a".into(),
        next_fair_start: fair_start.plus(10.0),
    };
    assert_eq!(effects[1], Effect::Persist(debt));
    assert!(
        matches!(effects.last(), Some(Effect::Wake { .. })),
        "{effects:?}"
    );
}
