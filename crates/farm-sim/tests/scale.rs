//! A day of a farm can be lived again; its figures can be believed; and decisions do not get dearer with the queue.
#![allow(clippy::unwrap_used, missing_docs)]

use clap::Parser;
use ocluster_farm_sim::Args;
use serde_json::Value;

/// What the program prints for these arguments, as data.
fn told(args: &str) -> Value {
    let words = ["ocluster-farm-sim"].into_iter().chain(args.split(' '));
    let mut out = Vec::new();
    Args::parse_from(words).run(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// A small day, without what decisions took in real time.
fn day(seed: u64) -> Value {
    let mut report = told(&format!(
        "day --workers 10 --slots 4 --clients 50 --jobs 4000 --hints 100 --cache 8 --seed {seed} --output json"
    ));
    for outcome in report["policies"].as_array_mut().unwrap() {
        assert!(
            outcome["decisions"]
                .as_array()
                .is_some_and(|d| !d.is_empty())
        );
        outcome["decisions"].take();
    }
    report
}

#[test]
fn one_seed_gives_one_day() {
    assert_eq!(day(7), day(7));
    assert_ne!(day(7)["lower_bound_s"], day(8)["lower_bound_s"]);
}

#[test]
fn all_jobs_of_a_day_are_run_and_no_policy_beats_the_bound() {
    let report = day(3);
    for outcome in report["policies"].as_array().unwrap() {
        assert_eq!(outcome["jobs_run"], 4000, "{outcome}");
        for share in ["hit_rate", "jain_of_share", "jain_of_slowdown"] {
            let share = outcome[share].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share), "{outcome}");
        }
        assert!(outcome["makespan_to_bound"].as_f64().unwrap() >= 1.0);
        assert!(outcome["hit_rate"].as_f64().unwrap() > 0.1, "{outcome}");
    }
}

/// The median cost of each kind of decision with so many jobs queued, in microseconds.
fn medians(policy: &str, queued: u64) -> Vec<(String, f64)> {
    let report = told(&format!(
        "decisions --workers 100 --clients 100 --hints 1000 --queued {queued} --rounds 4000 --policy {policy} --p99 1e12 --output json"
    ));
    let costs = report["policies"][0]["decisions"].as_array().unwrap();
    let of = |cost: &Value| {
        let kind = cost["kind"].as_str().unwrap().to_owned();
        (kind, cost["p50_us"].as_f64().unwrap())
    };
    costs.iter().map(of).collect()
}

#[test]
fn a_hundred_times_the_queue_makes_no_decision_ten_times_as_dear() {
    for policy in ["upstream", "balanced"] {
        let (short, long) = (medians(policy, 1_000), medians(policy, 100_000));
        for kind in ["submit", "pop", "cancel", "end"] {
            let of = |all: &[(String, f64)]| all.iter().find(|(k, _)| k == kind).unwrap().1;
            let (short, long) = (of(&short), of(&long));
            // Below a microsecond, what is measured is the clock.
            assert!(
                long < 10.0 * short.max(1.0),
                "{policy}, {kind}: {short} us with 1,000 queued, {long} us with 100,000"
            );
        }
    }
}
