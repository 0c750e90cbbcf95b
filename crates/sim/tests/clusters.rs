//! A few simulated clusters, and that one seed gives one history. `cargo xtask sim` runs as many as one likes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use ocluster_sim::cluster::Outcome;

/// Runs one seed in a process of its own.
fn run(seed: u64, hours: &str) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_ocluster-sim"))
        .args(["--one", "--first", &seed.to_string(), "--hours", hours])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn one_seed_gives_one_history() {
    let (once, again) = (run(7, "0.05"), run(7, "0.05"));
    assert!(once.events > 20, "too little happened: {once:?}");
    assert_eq!(once.digest, again.digest);
    assert_ne!(once.digest, run(8, "0.05").digest);
}

#[test]
fn clusters_in_trouble_keep_every_promise() {
    let mut faults = 0;
    for seed in [11, 106] {
        let outcome = run(seed, "0.1");
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        faults += outcome.faults.values().sum::<u64>();
    }
    assert!(faults >= 10, "only {faults} faults: nothing was proved");
}
