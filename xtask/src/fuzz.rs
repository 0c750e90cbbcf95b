//! `cargo xtask fuzz`: random bytes for what must hold for any, each target for a bounded time.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::codegen::workspace;
use crate::test::timed;

/// Where the targets are, from the workspace.
const DIRECTORY: &str = "crates/obuilder-spec/fuzz";

/// The targets.
const TARGETS: [&str; 3] = ["parse", "roundtrip", "ids"];

#[derive(Args)]
pub(crate) struct Options {
    /// How long each target runs, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    check(
        &["+nightly", "--version"],
        "fuzzing needs a nightly toolchain: rustup toolchain install nightly --profile minimal",
    )?;
    check(
        &["fuzz", "--version"],
        "fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked",
    )?;
    let directory = workspace()?.join(DIRECTORY);
    for target in TARGETS {
        let corpus = directory.join("corpus").join(target);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("failed to create {}", corpus.display()))?;
        let mut fuzz = Command::new("cargo");
        fuzz.args(["+nightly", "fuzz", "run", "--fuzz-dir"]);
        fuzz.arg(&directory).arg(target);
        fuzz.arg(corpus).arg(directory.join("seeds")).arg("--");
        fuzz.arg(format!("-max_total_time={}", options.seconds));
        fuzz.arg(format!("-dict={}", directory.join("spec.dict").display()));
        fuzz.args(["-max_len=4096", "-timeout=10", "-print_final_stats=1"]);
        timed(&format!("fuzzing {target} for {} s", options.seconds), fuzz)?;
    }
    Ok(())
}

/// Fails with the advice if cargo cannot do this.
fn check(arguments: &[&str], advice: &str) -> Result<()> {
    let status = Command::new("cargo")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("failed to run cargo")?;
    if !status.success() {
        bail!("{advice}");
    }
    Ok(())
}
