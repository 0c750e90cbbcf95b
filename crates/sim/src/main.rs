//! `ocluster-sim`: runs simulated clusters, seed by seed.

use std::process::ExitCode;

use clap::Parser as _;
use ocluster_sim::args::Args;
use ocluster_sim::{cluster, determinism, many, plan};

fn main() -> ExitCode {
    let args = Args::parse();
    let kept = if args.one { one(&args) } else { all(&args) };
    match kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("ocluster-sim: {error:#}"));
            ExitCode::from(125)
        }
    }
}

/// Runs one seed in this process, on a thread where nothing has asked for randomness yet.
fn one(args: &Args) -> anyhow::Result<bool> {
    if args.trace {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time()
            .init();
    }
    let dir = tempfile::Builder::new().prefix("ocluster-sim-").tempdir()?;
    let (args, path) = (args.clone(), dir.path().to_owned());
    let simulation = std::thread::spawn(move || {
        determinism::take_control(args.first)?;
        let plan = plan::Plan::of(args.first, args.troubled());
        cluster::run(&plan, &path, args.trace)
    });
    let outcome = match simulation.join() {
        Ok(outcome) => outcome?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    say(&serde_json::to_string(&outcome)?);
    Ok(true)
}

fn all(args: &Args) -> anyhow::Result<bool> {
    let sum = many::run(args, |outcome| {
        let verdict = if outcome.violations.is_empty() {
            "kept every promise"
        } else {
            "BROKE PROMISES"
        };
        say(&format!(
            "seed {}: {:.2} h, {} events, {} {verdict}",
            outcome.seed,
            outcome.seconds / 3600.0,
            outcome.events,
            outcome.digest.get(..12).unwrap_or_default()
        ));
    })?;
    say(sum.report().trim_end());
    Ok(sum.broken.is_empty())
}

#[expect(clippy::print_stdout, reason = "this is what the program is asked for")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "this is where programs complain")]
fn complain(line: &str) {
    eprintln!("{line}");
}
