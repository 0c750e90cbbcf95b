//! A short form of OCluster's stress shape: far more jobs than slots, all at once, and urgent ones meanwhile. `cargo xtask bench` has the
//! long form, with the figures that must be reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{Cluster, Story, run};

#[test]
fn a_thousand_jobs_at_once_are_all_accepted_and_run_while_urgent_ones_pass_them() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let health = cluster.add_client("health")?;
        let urgent = cluster.add_client("ocaml-ci")?;
        cluster
            .admin(&["set-rate", "linux", "ocaml-ci", "100"])?
            .success()?;
        let scheduler = cluster.scheduler()?.pid().to_string();
        let mut bench = story.programs.command("ocluster-bench");
        bench
            .args(["stress", "--output=json", "--pool=linux", "--jobs=1500"])
            .args(["--build-time=600ms", "--ask-ahead", "--pid", &scheduler])
            .arg("--urgent")
            .arg(urgent.cap())
            .arg("--workers")
            .arg(cluster.secret("pool-linux.cap"))
            .arg(health.cap());
        // Any job that is refused, lost or failed fails it.
        let figures = run(&mut bench)?.success()?.stdout;
        ensure!(figures.contains("\"slots\":352"), "{figures}");
        let urgent_jobs = number(&figures, "urgent_jobs")?;
        ensure!(urgent_jobs >= 7.0, "{figures}");
        // No urgent job waits for the queue: half of them start sooner than half of the queue is done.
        let (median, total) = (
            number(&figures, "urgent_median_ms")?,
            number(&figures, "total_seconds")? * 1000.0,
        );
        ensure!(median < total / 2.0, "{figures}");
        let show = cluster.show("linux")?;
        ensure!(
            ["queue: (ready) []", "queue: (backlog) []"]
                .iter()
                .any(|empty| show.contains(empty)),
            "{show}"
        );
        Ok(())
    })
}

/// A number of a flat JSON object.
fn number(json: &str, name: &str) -> Result<f64> {
    let (_, rest) = json
        .split_once(&format!("\"{name}\":"))
        .with_context(|| format!("no {name} in {json}"))?;
    let end = rest.find([',', '}']).context("a number without end")?;
    Ok(rest.get(..end).unwrap_or_default().trim().parse()?)
}
