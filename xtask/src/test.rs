//! `cargo xtask test`: every test, on real programs and a real Docker engine.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use ocluster_tests::{
    BIN_DIR_VARIABLE, PYTHON_VARIABLE, Python, SKIP_REPORT, SKIP_VARIABLE, check_interrupt,
};

use crate::codegen::workspace;
use crate::needs;
use crate::surroundings::Surroundings;

/// The real parts that can be left out.
const PARTS: [&str; 8] = [
    "docker",
    "dockerd",
    "netns",
    "obuilder",
    "prometheus",
    "pycapnp",
    "registry",
    "systemd",
];

/// The package whose tests are left out as a whole, since nearly all of them need them, without these parts.
const ENGINE: &str = "ocluster-obuilder";
const OF_ENGINE: [&str; 3] = ["dockerd", "obuilder", "registry"];

#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the tests that need a real part: docker, dockerd (engines that a test kills), netns, obuilder (runc,
    /// filesystems of its own, image tools), prometheus, pycapnp, registry, or systemd. Said loudly.
    #[arg(long, value_name = "PART", value_parser = PARTS)]
    skip: Vec<String>,
    /// Run only the tests whose names contain this.
    filter: Option<String>,
    /// Passed to the programs with the tests, such as `-- --nocapture`.
    #[arg(last = true, value_name = "FLAG")]
    rest: Vec<String>,
}

impl Options {
    /// What `cargo test` gets of these.
    fn words(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.filter.as_deref().into_iter().collect();
        if !self.rest.is_empty() {
            words.push("--");
            words.extend(self.rest.iter().map(String::as_str));
        }
        words
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    needs::provide(&needs::for_tests(), &options.skip)?;
    let without_docker = options.skip.iter().any(|part| part == "docker");
    let surroundings = if without_docker {
        None
    } else {
        Some(Surroundings::prepare()?)
    };
    let python = program_directory()?.with_file_name("python");
    if !options.skip.iter().any(|part| part == "pycapnp") {
        Python::provide(&python)?;
    }
    let report = tempfile::NamedTempFile::new()?;

    timed(
        "building every program and test",
        build(&["build", "--workspace"]),
    )?;
    timed(
        "building the tests",
        build(&["test", "--workspace", "--no-run"]),
    )?;
    let mut command = build(&["test", "--workspace", "--no-fail-fast"]);
    if let Some(part) = options
        .skip
        .iter()
        .find(|part| OF_ENGINE.contains(&part.as_str()))
    {
        command.args(["--exclude", ENGINE]);
        fs::write(report.path(), format!("all of {ENGINE} (needs {part})\n"))?;
    }
    command.args(options.words());
    command
        .env(BIN_DIR_VARIABLE, program_directory()?)
        .env(SKIP_VARIABLE, options.skip.join(","));
    command
        .env(SKIP_REPORT, report.path())
        .env(PYTHON_VARIABLE, python);
    if let Some(surroundings) = &surroundings {
        surroundings.export(&mut command);
    }
    let outcome = timed("running the tests", command);

    let left_out = fs::read_to_string(report.path())?;
    if !options.skip.is_empty() {
        println!(
            "\n!!! asked to skip {}: {} tests did NOT run:",
            options.skip.join(", "),
            left_out.lines().count()
        );
        print!("{left_out}");
    }
    outcome
}

/// The directory into which cargo puts the programs of the profile that this one has.
pub(crate) fn program_directory() -> Result<PathBuf> {
    Ok(env::current_exe()?
        .parent()
        .context("a program without a directory")?
        .to_owned())
}

/// A cargo command in the workspace.
pub(crate) fn build(words: &[&str]) -> Command {
    let mut command = needs::cargo();
    command.args(words);
    command
}

/// Runs `command` with its output where ours goes, and says what is done and how long it took.
pub(crate) fn timed(what: &str, mut command: Command) -> Result<()> {
    println!("==> {what}");
    let start = Instant::now();
    let status = command
        .current_dir(workspace()?)
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    check_interrupt()?;
    println!("==> {what}: {} s", start.elapsed().as_secs());
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    ensure!(status.success());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn what_is_for_cargo_and_for_the_tests_is_told_from_what_is_ours() {
        let parse = |args: &[&str]| {
            let line = CommandLine::try_parse_from([&["test"], args].concat());
            line.map(|line| line.options)
        };
        let words = |args: &[&str]| parse(args).unwrap().words().join(" ");
        assert_eq!(words(&[]), "");
        assert_eq!(words(&["--", "--nocapture"]), "-- --nocapture");
        assert_eq!(words(&["name", "--", "--nocapture"]), "name -- --nocapture");
        for args in [["name", "--skip", "docker"], ["--skip", "docker", "name"]] {
            let options = parse(&args).unwrap();
            assert_eq!(options.skip, ["docker"]);
            assert_eq!(options.words(), ["name"]);
        }
        assert!(parse(&["--nocapture"]).is_err());
        assert!(parse(&["--skip", "tea"]).is_err());
    }

    #[test]
    fn the_ci_script_runs_every_step_and_lets_none_fail_in_silence() {
        let script = fs::read_to_string(workspace().unwrap().join(".ci/run")).unwrap();
        for step in [
            "cargo fmt --all --check",
            "cargo clippy --workspace --all-targets --locked -- -D warnings",
            "cargo doc --workspace --no-deps --locked",
            "cargo xtask codegen --check",
            "cargo deny check bans licenses sources",
            "cargo xtask test",
            "cargo xtask demo",
        ] {
            assert!(
                script
                    .lines()
                    .any(|line| line.trim_start().starts_with("step ") && line.contains(step)),
                "{step}"
            );
        }
        assert!(script.contains("set -euo pipefail"));
        assert!(!script.contains("|| true"));
    }
}
