//! `cargo xtask bench`: the project's figures, each with the threshold it must stay below, on release builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;
use ocluster_tests::{Cluster, ClusterOptions, Programs, Story, WorkerOptions};

use crate::codegen::workspace;
use crate::needs;
use crate::surroundings::Surroundings;
use crate::test::{build, timed};

/// The median of a no-op job on a real worker, end to end.
const NO_OP_MEDIAN: &str = "2ms";
/// A build context from git, as a multiple of what git takes.
const GIT_RATIO: &str = "1.25";
/// What a Docker build may take longer through the cluster, in percent (or the program's default grace, whichever is more).
const BUILD_OVERHEAD: &str = "5";
/// Time until a day's work that is submitted at once is accepted.
const STRESS_ACCEPTED: &str = "15s";
/// Time that an urgent job waits for a worker meanwhile.
const STRESS_URGENT: &str = "1s";

#[derive(Args)]
pub(crate) struct Options {
    /// Only the scenarios of `crates/bench/scenarios.toml` with these names, or all of them if no name is given. They need neither
    /// Docker nor git.
    #[arg(long, value_name = "NAME", num_args = 0..)]
    scenarios: Option<Vec<String>>,
    /// Also write the scenarios' results to this file, for `ocluster-bench compare`.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Directory for the schedulers' files, on a real disk [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Number of no-op jobs.
    #[arg(long, default_value_t = 1000)]
    jobs: u32,
    /// Number of jobs that are submitted at once.
    #[arg(long, default_value_t = 21_000)]
    stress_jobs: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.scenarios.is_none() {
        needs::provide(&needs::for_bench(), &[])?;
    }
    timed(
        "building the programs for release",
        build(&["build", "--release", "--workspace", "--bins"]),
    )?;
    let programs = release_directory()?;
    let mut missed = Vec::new();
    if options.scenarios.is_none() {
        builds(options, &programs, &mut missed)?;
    }
    // Last, so that their table is what is left on the screen.
    measure(
        "the scheduler in all scenarios",
        scenarios(options, &programs),
        &mut missed,
    );
    if !missed.is_empty() {
        bail!(
            "a figure missed its threshold, or was not measured: {}",
            missed.join(", ")
        );
    }
    Ok(())
}

/// What scenarios.toml describes. The table and its verdicts are the program's own.
fn scenarios(options: &Options, programs: &Path) -> Command {
    let mut command = Command::new(programs.join("ocluster-bench"));
    command
        .arg("scenarios")
        .arg("--scheduler")
        .arg(programs.join("ocluster-scheduler"))
        .args(options.scenarios.iter().flatten());
    if let Some(file) = &options.json {
        command.arg("--json").arg(file);
    }
    if let Some(directory) = &options.directory {
        command.arg("--directory").arg(directory);
    }
    command
}

/// What is measured with a real worker, Docker, git and OBuilder.
fn builds(options: &Options, programs: &Path, missed: &mut Vec<&'static str>) -> Result<()> {
    let bench = programs.join("ocluster-bench");
    let surroundings = Surroundings::prepare()?;
    Story::tell_with(Programs::at(programs.to_owned())?, |story| {
        let mut cluster = Cluster::start_with(story, ClusterOptions::pools(&["work", "stress"]))?;
        let scheduler = cluster.scheduler()?.pid().to_string();

        let _worker = cluster.add_worker_with(
            WorkerOptions::named("bench")
                .pool("work")
                .capacity(1)
                .docker_host(surroundings.engine().host())
                .test_jobs(),
        )?;
        let client = cluster.add_client("bench")?;
        let mut latency = Command::new(&bench);
        latency.args(["latency", "--pool", "work", "--threshold", NO_OP_MEDIAN]);
        latency.args(["--jobs", &options.jobs.to_string()]);
        latency.arg(client.cap());
        measure("time of a no-op job", latency, missed);

        let health = cluster.add_client("health")?;
        let urgent = cluster.add_client("ocaml-ci")?;
        cluster
            .admin(&["set-rate", "stress", "ocaml-ci", "100"])?
            .success()?;
        let mut stress = Command::new(&bench);
        stress.args(["stress", "--pool", "stress", "--pid", &scheduler]);
        stress.args(["--jobs", &options.stress_jobs.to_string()]);
        stress.args(["--accept-threshold", STRESS_ACCEPTED]);
        stress.args(["--urgent-threshold", STRESS_URGENT]);
        stress.arg("--urgent").arg(urgent.cap());
        stress
            .arg("--workers")
            .arg(cluster.secret("pool-stress.cap"));
        stress.arg(health.cap());
        measure("urgent jobs beside a day's work", stress, missed);

        let mut git = Command::new(&bench);
        git.args(["git", "--threshold", GIT_RATIO, "--worker"]);
        git.arg(story.programs.directory().join("ocluster-worker"));
        measure("time of a build context from git", git, missed);

        let mut overhead = Command::new(&bench);
        overhead.args(["overhead", "--pool", "work", "--threshold", BUILD_OVERHEAD]);
        overhead.args(["--image", surroundings.image().name()]);
        overhead.arg(client.cap());
        surroundings.export(&mut overhead);
        measure("time of Docker builds", overhead, missed);

        // Its thresholds are its own: they are for one kind of store.
        let mut obuilder = Command::new(&bench);
        obuilder.arg("obuilder");
        measure("time and memory of OBuilder builds", obuilder, missed);
        Ok(())
    })
}

fn measure(what: &'static str, command: Command, missed: &mut Vec<&'static str>) {
    if timed(what, command).is_err() {
        missed.push(what);
    }
}

/// Where cargo puts the programs of the release profile: beside this program's own profile.
fn release_directory() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace().map(|root| root.join("target")),
        |directory| Ok(directory.into()),
    )?;
    Ok(target.join("release"))
}
