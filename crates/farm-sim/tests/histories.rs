//! Some histories: promises are kept in them, faults of every kind happen, and each can be lived again.
#![allow(clippy::panic, missing_docs)]

use ocluster_farm_sim::{Fault, Report, run};

#[test]
fn promises_are_kept_whatever_happens() {
    let mut report = Report::default();
    // 103 was broken once: a worker had a cached job near its turn, and took one without any hint, which it had for itself, before both.
    for seed in (1_000..1_025).chain([103]) {
        let history = run(seed, 24);
        report.add(&history);
        if let Some(violation) = history.violation {
            let tail = violation.tail.join("\n");
            panic!("{tail}\n\nbroken with seed {seed}: {}", violation.what);
        }
    }
    for fault in Fault::ALL {
        assert!(report.faults(fault) > 0, "no {}\n{report}", fault.name());
    }
    assert!(report.rushes() > 0, "fairness was never measured\n{report}");
}

#[test]
fn one_seed_gives_one_history() {
    let digest = |seed| run(seed, 12).digest;
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}
