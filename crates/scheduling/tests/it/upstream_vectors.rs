//! Further behaviour of OCluster's pool, observed on its own code, under the policy `upstream`.
//!
//! Unless a test says otherwise, costs are 2 and 10, and the clock stands at 1.

use ocluster_scheduling::{Config, Costs, Event, Policy, PoolConfig, Refusal};

use super::env::TestEnv;

#[test]
fn b02_a_busy_worker_is_preferred_until_its_workload_exceeds_the_limit() {
    let mut env = TestEnv::new(Policy::Upstream, 10, 600);
    let a = env.worker("a");
    env.submit("u:j0", "h");
    let first = env.pop(a);
    assert_eq!(env.got(first), "j0");
    for job in 1..=70 {
        env.submit(&format!("u:j{job}"), "h");
    }
    let b = env.worker("b");
    let pop = env.pop(b);
    assert_eq!(env.got(pop), "j62");
    let dump = env.dump();
    assert!(
        env.line("a (610)").starts_with("a (610): [u:j61@"),
        "{dump}"
    );
    assert_eq!(env.stats().local[0].1.low, 61);
    assert_eq!(env.stats().incoming.low, 8);
    let backlog = dump.split("registered").next().unwrap();
    assert!(
        backlog.contains("[u:j70@") && backlog.contains("u:j63@"),
        "{backlog}"
    );
}

#[test]
fn b03_the_worker_that_has_waited_longest_is_next() {
    let mut env = TestEnv::upstream();
    let (w1, w2, w3) = (env.worker("w1"), env.worker("w2"), env.worker("w3"));
    let (p2, p3, p1) = (env.pop(w2), env.pop(w3), env.pop(w1));
    assert_eq!(env.line("queue"), "queue: (ready) [w1 w3 w2]");
    for job in ["u:j1", "u:j2", "u:j3", "u:j4"] {
        env.submit(job, "");
    }
    env.shows(
        "capacity: 3
         queue: (backlog) [u:j4@30s]
         registered:
           w1 (10): [u:j3@20s(10)] (0 running)
           w2 (10): [u:j1@0s(10)] (0 running)
           w3 (10): [u:j2@10s(10)] (0 running)
         disconnected:
         clients: u(1)+40s
         cached: : [w1; w2; w3]",
    );
    env.pump();
    assert_eq!((env.got(p1), env.got(p2), env.got(p3)), ("j3", "j1", "j2"));
    let again = env.pop(w1);
    assert_eq!(env.got(again), "j4");
    assert_eq!(env.line("w1"), "w1 (0): [] (2 running)");
}

/// Two clients, costs 10 and 600; the second at a rate that is shown as 0.
fn times() -> TestEnv {
    let mut env = TestEnv::new(Policy::Upstream, 10, 600);
    for job in ["u:j1", "u:j2", "u:j3", "u:j4"] {
        env.submit(job, "");
    }
    env.rate("v", 0.4);
    env.submit("v:k1", "");
    env.submit("v:k2!", "");
    env
}

#[test]
fn b05_times_are_shown_roughly() {
    let mut env = times();
    assert_eq!(
        env.line("queue"),
        "queue: (backlog) [u:j4@30m u:j3@20m u:j2@10m v:k1@0s u:j1@0s v:k2@25m+urgent]"
    );
    assert_eq!(env.line("clients"), "clients: u(1)+40m v(0)+50m");
    env.advance(30.0);
    let queue = env.line("queue");
    assert!(
        queue.contains("u:j1@-30s") && queue.contains("v:k2@24m+urgent"),
        "{queue}"
    );
    env.advance(1000.0);
    assert!(env.dump().contains(
        "[u:j4@13m u:j3@3m u:j2@-430s v:k1@-1030s u:j1@-1030s\n                  v:k2@8m+urgent]"
    ));
    assert_eq!(env.line("clients"), "clients: u(1)+23m v(0)+33m");
    env.advance(10_000.0);
    assert_eq!(
        env.line("clients"),
        "clients: u(1) v(0)",
        "a debt is paid off by time"
    );
    env.submit("u:late", "");
    assert!(
        env.line("queue").contains("[u:late@0s"),
        "idle time earns no credit"
    );
    assert_eq!(env.line("clients"), "clients: u(1)+10m v(0)");
}

#[test]
fn b06_long_lists_are_wrapped() {
    let mut env = times();
    env.advance(1030.0);
    env.submit("u:late", "");
    assert!(env.dump().contains(
        "queue: (backlog) [u:late@23m u:j4@13m u:j3@3m u:j2@-430s v:k1@-1030s
                  u:j1@-1030s v:k2@8m+urgent]
registered:"
    ));

    let mut env = TestEnv::new(Policy::Upstream, 10, 600);
    env.submit("client-number-1:first", "");
    for client in 1..=6 {
        env.submit(&format!("client-number-{client}:j{client}"), "");
    }
    assert!(env.dump().contains(
        "clients: client-number-1(1)+20m client-number-2(1)+10m client-number-3(1)+10m
         client-number-4(1)+10m client-number-5(1)+10m client-number-6(1)+10m
cached:"
    ));
}

#[test]
fn b06_an_overlong_item_stands_alone() {
    let mut env = TestEnv::upstream();
    let long = "x".repeat(90);
    env.submit("u:a", "");
    env.submit(&format!("u:{long}"), "");
    env.submit("u:b", "");
    let indent = " ".repeat("queue: (backlog) [".len());
    assert!(
        env.dump()
            .contains(&format!("[u:b@20s\n{indent}u:{long}@10s\n{indent}u:a@0s]")),
        "{}",
        env.dump()
    );
}

#[test]
fn b06_a_list_after_a_long_name_begins_on_a_line_of_its_own() {
    let mut env = TestEnv::upstream();
    // Two columns of indentation before the name and six characters behind it.
    let (fits, too_long) = ("w".repeat(59), "x".repeat(60));
    env.worker(&fits);
    env.worker(&too_long);
    let dump = env.dump();
    assert!(
        dump.contains(&format!("  {fits} (0): [] (0 running)\n")),
        "{dump}"
    );
    assert!(
        dump.contains(&format!("  {too_long} (0): \n  [] (0 running)\n")),
        "{dump}"
    );
}

#[test]
fn b08_urgent_jobs_keep_to_fair_starts_among_themselves() {
    let mut env = TestEnv::upstream();
    for job in ["a:a1!", "a:a2!", "a:a3!", "b:b1", "b:b2!"] {
        env.submit(job, "");
    }
    assert_eq!(
        env.line("queue"),
        "queue: (backlog) [b:b1@0s a:a3@20s+urgent b:b2@10s+urgent a:a2@10s+urgent a:a1@0s+urgent]"
    );
    let w = env.worker("w");
    assert_eq!(env.flush(w), "a1 a2 b2 a3 b1");
}

#[test]
fn b08_a_new_rate_counts_for_later_jobs_only() {
    let mut env = TestEnv::upstream();
    env.submit("a:a1", "");
    env.submit("a:a2", "");
    env.rate("a", 10.0);
    env.submit("a:a3", "");
    env.submit("a:a4", "");
    assert_eq!(
        env.line("queue"),
        "queue: (backlog) [a:a4@21s a:a3@20s a:a2@10s a:a1@0s]"
    );
    assert_eq!(env.line("clients"), "clients: a(10)+22s");
}

#[test]
fn b11_a_worker_leaves_with_a_job_running_and_a_request_waiting() {
    let mut env = TestEnv::upstream();
    let w = env.worker("w");
    env.submit("u:j1", "");
    let p1 = env.pop(w);
    let p2 = env.pop(w);
    assert_eq!((env.got(p1), env.got(p2)), ("j1", "waiting"));
    env.leave(w);
    assert_eq!(env.got(p2), "disconnected");
    let known = env.cluster.known_workers(&env.pool).unwrap();
    assert_eq!(
        (known[0].name.as_str(), known[0].connected, known[0].active),
        ("w", None, true)
    );
    assert_eq!(
        env.cluster.running(w.0),
        1,
        "its job runs until somebody says otherwise"
    );
    env.finish(w);
    assert_eq!(env.cluster.running(w.0), 0);
    assert_eq!(
        env.event(Event::WorkerResumed { worker: w.0 }),
        Err(Refusal::QueueClosed)
    );
    assert_eq!(Refusal::QueueClosed.to_string(), "Queue already closed!");
}

#[test]
fn b13_shutting_down_outlasts_the_pauses() {
    let mut env = TestEnv::upstream();
    let w = env.register("w");
    env.event(Event::ShuttingDown { worker: w.0 }).unwrap();
    env.resume(w);
    env.admin("w", true).unwrap();
    assert_eq!(
        env.line("w"),
        "w (0): (inactive: shutting down) (0 running)"
    );
    env.admin("w", false).unwrap();
    assert_eq!(
        env.line("w"),
        "w (0): (inactive: admin pause, shutting down) (0 running)"
    );
    env.admin("w", true).unwrap();
    assert_eq!(
        env.line("w"),
        "w (0): (inactive: shutting down) (0 running)"
    );
}

#[test]
fn b14_a_hint_is_cheap_in_its_own_pool_even_when_its_worker_is_away() {
    let pools = ["pool", "other"];
    let pools = pools.map(|name| PoolConfig {
        name: name.into(),
        policy: Policy::Upstream,
    });
    let costs = Costs {
        cached: 2,
        non_cached: 10,
    };
    let mut env = TestEnv::of(Config {
        pools: pools.to_vec(),
        costs,
        ..Config::default()
    });
    let w = env.worker("w");
    env.submit("u:j1", "h");
    let pop = env.pop(w);
    assert_eq!(env.got(pop), "j1");
    // Until the client owes nothing, for what it owes is remembered here.
    env.advance(10.0);
    env.restart();
    env.submit("u:j2", "h");
    assert_eq!(env.line("clients"), "clients: u(1)+2s");
    env.pool = "other".into();
    env.submit("u:j3", "h");
    assert_eq!(env.line("clients"), "clients: u(1)+10s");
}

#[test]
fn b15_clients_take_turns_by_their_rates() {
    let mut env = TestEnv::upstream();
    for (client, rate) in [("a", 1.0), ("b", 2.0), ("d", 4.0)] {
        env.rate(client, rate);
    }
    for client in ["a", "b", "d"] {
        for job in 1..=4 {
            env.submit(&format!("{client}:{client}{job}"), "");
        }
    }
    let w = env.worker("w");
    assert_eq!(env.flush(w), "a1 b1 d1 d2 b2 d3 d4 a2 b3 b4 a3 a4");
}

#[test]
fn several_requests_of_one_worker_the_oldest_gets_the_job_and_the_others_queue_up_again() {
    let mut env = TestEnv::upstream();
    let (w1, w2) = (env.worker("w1"), env.worker("w2"));
    let (p1, p2, p3) = (env.pop(w1), env.pop(w1), env.pop(w2));
    assert_eq!(env.line("queue"), "queue: (ready) [w2 w1 w1]");
    env.submit("u:j1", "");
    env.pump();
    assert_eq!((env.got(p1), env.got(p2)), ("j1", "waiting"));
    assert_eq!(env.line("queue"), "queue: (ready) [w1 w2]");
    env.submit("u:j2", "");
    env.pump();
    assert_eq!((env.got(p2), env.got(p3)), ("waiting", "j2"));
}

#[test]
fn a_tie_between_cached_workers_goes_to_the_later_name() {
    let mut env = TestEnv::upstream();
    let workers = ["w1", "w3", "w2"].map(|name| env.worker(name));
    for (worker, job) in workers.into_iter().zip(["u:j1", "u:j2", "u:j3"]) {
        env.submit(job, "h");
        // Asked while nobody is idle and the others have left nothing behind.
        env.pause(workers[0]);
        env.pause(workers[1]);
        env.pause(workers[2]);
        env.resume(worker);
        let pop = env.pop(worker);
        assert_ne!(env.got(pop), "waiting");
    }
    env.resume(workers[0]);
    env.resume(workers[1]);
    assert_eq!(env.line("cached"), "cached: h: [w1; w2; w3]");
    let pop = env.pop(workers[2]);
    env.submit("u:j4", "h");
    assert_eq!(env.line("w3"), "w3 (2): [u:j4@14s(2)] (1 running)");
    env.submit("u:j5", "h");
    assert_eq!(env.line("w2"), "w2 (2): [u:j5@16s(2)] (1 running)");
    env.pump();
    assert_eq!(env.got(pop), "j5");
}

#[test]
fn the_log_has_the_lines_operators_search_for() {
    let mut env = TestEnv::upstream();
    let w = env.worker("w");
    env.pop(w);
    env.submit("u:j1", "h");
    env.pump();
    env.submit("u:j2", "h");
    env.pop(w);
    env.submit("u:j3", "");
    env.pop(w);
    env.pop(w);
    env.submit("u:j4", "h");
    assert_eq!(
        env.log,
        [
            "\"w\" is waiting for more work",
            "Assigning h to \"w\" (the next free worker)",
            "\"w\" takes h from its local queue",
            "Adding h to the backlog",
            "Assigning h to \"w\" (preferred)",
            "\"w\" takes h from its local queue",
            "Adding (no cache hint) to the backlog",
            "\"w\" takes (no cache hint) from the main queue",
            "\"w\" is waiting for more work",
            "Assigning h to \"w\" (preferred)",
        ]
    );
}
