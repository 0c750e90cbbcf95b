//! Clients whose jobs may not all run at once: what is above the bound waits aside, and comes in as others end.

use ocluster_scheduling::{Config, Costs, Event, Policy, PoolConfig, RunningQuota};

use super::env::TestEnv;

/// Both policies, with these bounds; the first is for all clients, the others for those named.
fn both(general: Option<u32>, of_client: &[(&str, u32)]) -> [TestEnv; 2] {
    let bounds = of_client.iter();
    let of_client = bounds.map(|(client, bound)| ((*client).into(), *bound));
    let max_running = RunningQuota {
        general,
        of_client: of_client.collect(),
    };
    [Policy::Upstream, Policy::Balanced].map(|policy| {
        let name = "pool".into();
        TestEnv::of(Config {
            pools: vec![PoolConfig { name, policy }],
            costs: Costs {
                cached: 2,
                non_cached: 10,
            },
            max_running: max_running.clone(),
            ..Config::default()
        })
    })
}

#[test]
fn what_is_above_the_bound_waits_aside_and_others_go_ahead() {
    for mut env in both(Some(2), &[]) {
        let w = env.worker_with("w", 10);
        for job in ["a:a1", "a:a2", "a:a3", "a:a4", "b:b1"] {
            env.submit(job, "");
        }
        env.shows(
            "capacity: 10
             queue: (backlog) [a:a2@10s b:b1@0s a:a1@0s]
             held: [a:a4@30s a:a3@20s]
             registered:
               w (0): [] (0 running)
             disconnected:
             clients: a(1)+40s b(1)+10s
             cached:",
        );
        let pops: Vec<_> = (0..4).map(|_| env.pop(w)).collect();
        env.pump();
        let got: Vec<_> = pops.iter().map(|pop| env.got(*pop)).collect();
        assert_eq!(got, ["a1", "b1", "a2", "waiting"]);
        let queued = env.stats().clients[0].1.total();
        assert_eq!(queued, 2, "those held are the client's too");
        env.end("a2");
        env.pump();
        assert_eq!(env.got(pops[3]), "a3");
        assert_eq!(env.line("held"), "held: [a:a4@30s]");
    }
}

#[test]
fn an_urgent_job_takes_the_turn_of_one_that_is_not_yet_running() {
    for mut env in both(None, &[("a", 2)]) {
        let w = env.worker("w");
        for job in ["a:a1", "a:a2", "b:b1", "b:b2", "b:b3"] {
            env.submit(job, "");
        }
        let first = env.pop(w);
        assert_eq!(env.got(first), "a1");
        env.submit("a:now!", "");
        assert_eq!(env.line("held"), "held: [a:a2@10s]");
        env.submit("a:later", "");
        env.finish(w);
        assert_eq!(env.line("held"), "held: [a:later@30s]", "in their order");
        assert_eq!(env.flush(w), "now b1 a2 b2 b3 later");
    }
}

#[test]
fn held_jobs_can_be_cancelled_and_make_room_when_others_are() {
    for mut env in both(Some(1), &[]) {
        for job in ["a:a1", "a:a2", "a:a3"] {
            env.submit(job, "");
        }
        env.cancel("a2").unwrap();
        assert_eq!(env.line("held"), "held: [a:a3@20s]");
        env.cancel("a1").unwrap();
        assert_eq!(env.line("queue"), "queue: (backlog) [a:a3@20s]");
        assert_eq!(env.line("held"), "");
        env.submit("a:a4", "");
        let client = "a".into();
        env.event(Event::ClientRemoved { client }).unwrap();
        assert_eq!(env.line("queue"), "queue: (backlog) []");
        assert_eq!(env.line("held"), "");
    }
}

#[test]
fn a_bound_of_none_at_all_holds_everything() {
    for mut env in both(None, &[("a", 0)]) {
        let w = env.worker("w");
        env.submit("a:a1", "");
        env.submit("b:b1", "");
        assert_eq!(env.flush(w), "b1");
        assert_eq!(env.line("held"), "held: [a:a1@0s]");
    }
}

#[test]
fn jobs_that_workers_bring_along_count() {
    for mut env in both(Some(1), &[]) {
        let w = env.worker_with("w", 3);
        env.submit("a:a1", "");
        env.pop(w);
        env.submit("a:a2", "");
        env.restart();
        env.requeue("a2", &[]).unwrap();
        assert_eq!(env.line("queue"), "queue: (backlog) [a:a2@10s]");
        let w = env.worker_with("w", 3);
        env.adopt(w, "a1").unwrap();
        assert_eq!(env.line("held"), "held: [a:a2@10s]");
        let pop = env.pop(w);
        env.finish(w);
        env.pump();
        assert_eq!(env.got(pop), "a2");
    }
}

#[test]
fn a_retried_job_comes_in_before_those_that_were_held() {
    for mut env in both(Some(1), &[]) {
        let w = env.worker("w");
        for job in ["a:a1", "a:a2"] {
            env.submit(job, "");
        }
        env.pop(w);
        env.retry("a1", &[]);
        assert_eq!(env.line("queue"), "queue: (backlog) [a:a1@0s]");
        assert_eq!(env.flush(w), "a1 a2");
    }
}
