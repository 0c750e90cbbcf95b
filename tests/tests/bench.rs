//! The short form of the scenarios that a scheduler is measured with: all of them run, each gives its figures, and nothing is slower
//! by far than the bare broker. `cargo xtask bench` has the long form, with the figures that must be reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{Cluster, Story, run};
use serde_json::Value;

#[test]
fn every_scenario_runs_in_its_short_form_and_gives_its_figures() -> Result<()> {
    Story::tell(&[], |story| {
        let bench = || story.programs.command("ocluster-bench");
        let list = run(bench().args(["scenarios", "--list"]))?.success()?;
        let names: Vec<&str> = list
            .stdout
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        ensure!(names.contains(&"no-op-16"), "{}", list.stdout);

        let mut short = bench();
        short
            .args(["scenarios", "--short", "--output=json", "--scheduler"])
            .arg(story.programs.directory().join("ocluster-scheduler"))
            .arg("--directory")
            .arg(story.scratch.path());
        // It fails if a scenario does, or misses what its short form must reach.
        let printed = run(&mut short)?.success()?.stdout;
        let report: Value = serde_json::from_str(&printed)?;
        ensure!(
            report["version"] == 1 && report["short"] == true,
            "{printed}"
        );
        let outcomes = report["scenarios"].as_array().context("no scenarios")?;
        let measured: Vec<&str> = outcomes
            .iter()
            .filter_map(|outcome| outcome["name"].as_str())
            .collect();
        assert_eq!(measured, names);
        for outcome in outcomes {
            let figures = outcome["figures"].as_array().context("no figures")?;
            ensure!(!figures.is_empty(), "{outcome}");
            ensure!(figures.iter().all(|one| one["value"].is_f64()), "{outcome}");
        }

        let results = story.scratch.write("results.json", &printed)?;
        let compared = run(bench().arg("compare").arg(&results).arg(&results))?.success()?;
        for name in names {
            ensure!(compared.stdout.contains(name), "{}", compared.stdout);
        }
        Ok(())
    })
}

#[test]
fn a_missed_threshold_and_a_scenario_that_cannot_run_fail_the_whole() -> Result<()> {
    Story::tell(&[], |story| {
        let scenarios = story.scratch.write(
            "scenarios.toml",
            "[[scenario]]\nname = \"impossible\"\nwhat = \"calls without time\"\nkind = \"echo\"\n\
             params = { seconds = 0.2, warm_up_seconds = 0.1, rounds = 1 }\n\
             thresholds = { calls_per_second = { short_at_least = 1e9 } }\n\
             [[scenario]]\nname = \"nowhere\"\nwhat = \"no scheduler\"\nkind = \"load\"\n\
             params = { rounds = 1 }\n",
        )?;
        let mut bench = story.programs.command("ocluster-bench");
        bench
            .args([
                "scenarios",
                "--short",
                "--scheduler",
                "/nonexistent/scheduler",
            ])
            .arg("--scenarios")
            .arg(scenarios);
        let said = run(&mut bench)?.exits_with(1)?.stdout;
        ensure!(said.contains(">= 1000000000  MISSED"), "{said}");
        ensure!(
            said.contains("cannot start /nonexistent/scheduler") && said.contains("FAILED"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn a_scheduler_that_somebody_else_runs_is_measured_by_its_caps_alone() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let client = cluster.add_client("bench")?;
        let scheduler = cluster.scheduler()?.pid().to_string();
        let given = |scenario: &str| {
            let mut bench = story.programs.command("ocluster-bench");
            bench
                .args(["scenarios", "--short", "--pool=linux", scenario, "--pid"])
                .args([&scheduler, "--registration"])
                .arg(cluster.secret("pool-linux.cap"))
                .arg("--submission")
                .arg(client.cap());
            bench
        };
        let said = run(&mut given("one-at-a-time"))?.success()?.stdout;
        ensure!(said.contains("latency_median"), "{said}");
        let show = cluster.show("linux")?;
        ensure!(show.contains("bench-1"), "the worker was elsewhere: {show}");
        Ok(())
    })
}
