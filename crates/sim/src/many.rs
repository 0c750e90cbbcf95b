//! Many seeds, each in a process of its own, so that no seed's history depends on those before it; and the sum of what they found.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::args::Args;
use crate::cluster::Outcome;
use crate::faults::Counts;

/// What a number of seeds came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Seeds that were run.
    pub seeds: u64,
    /// Simulated hours.
    pub hours: f64,
    /// Jobs submitted.
    pub jobs: usize,
    /// Runs of jobs on workers.
    pub executions: usize,
    /// Reads resumed after a loss.
    pub resumed_reads: u64,
    /// Faults of each kind.
    pub faults: Counts,
    /// Durable jobs by how they ended.
    pub ended: Counts,
    /// The seeds that broke promises, and which.
    pub broken: Vec<(u64, Vec<String>)>,
}

impl Sum {
    /// Adds what became of a seed.
    pub fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.hours += outcome.seconds / 3600.0;
        self.jobs += outcome.jobs;
        self.executions += outcome.executions;
        self.resumed_reads += outcome.resumed_reads;
        for (kind, count) in outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (state, count) in outcome.ended {
            *self.ended.entry(state).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            self.broken.push((outcome.seed, outcome.violations));
        }
    }

    /// It all, for people.
    #[must_use]
    pub fn report(&self) -> String {
        let counted = |counts: &Counts| {
            let each = counts.iter().map(|(kind, count)| format!("{count} {kind}"));
            each.collect::<Vec<_>>().join(", ")
        };
        let mut report = format!(
            "{} clusters, {:.1} simulated hours, {} jobs, {} runs of jobs, {} logs read on after a loss\nfaults: {}\njobs: {}\n",
            self.seeds,
            self.hours,
            self.jobs,
            self.executions,
            self.resumed_reads,
            counted(&self.faults),
            counted(&self.ended)
        );
        for (seed, violations) in &self.broken {
            // Writing into memory does not fail.
            let _ = writeln!(report, "seed {seed}:");
            for violation in violations {
                let _ = writeln!(report, "  {violation}");
            }
        }
        if self.broken.is_empty() {
            report.push_str("every promise was kept\n");
        }
        report
    }
}

/// A seed that is being run.
struct Running {
    seed: u64,
    child: Child,
}

impl Running {
    fn start(args: &Args, seed: u64) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command
            .args(["--one", "--first", &seed.to_string()])
            .args(["--hours", &args.hours.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if args.trace {
            command.arg("--trace");
        } else {
            // The programs tell their progress there.
            command.stderr(Stdio::null());
        }
        let child = command.spawn().context("cannot start this program anew")?;
        Ok(Self { seed, child })
    }

    fn finish(mut self) -> anyhow::Result<Outcome> {
        let mut text = String::new();
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_string(&mut text)?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("seed {} could not be run: {status}", self.seed);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("seed {} gave no outcome: {text}", self.seed))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one seed in a process of its own.
///
/// # Errors
/// When the process cannot be started or does not end well.
pub fn run_one(args: &Args, seed: u64) -> anyhow::Result<Outcome> {
    Running::start(args, seed)?.finish()
}

/// Runs all seeds, some at once, and tells each outcome as it comes.
///
/// # Errors
/// As [`run_one`].
pub fn run(args: &Args, mut tell: impl FnMut(&Outcome)) -> anyhow::Result<Sum> {
    let mut sum = Sum::default();
    let mut running = VecDeque::new();
    let mut seeds = args.first..args.first.saturating_add(args.seeds);
    loop {
        while running.len() < args.jobs.max(1)
            && let Some(seed) = seeds.next()
        {
            running.push_back(Running::start(args, seed)?);
        }
        let Some(oldest) = running.pop_front() else {
            return Ok(sum);
        };
        let outcome = oldest.finish()?;
        tell(&outcome);
        sum.add(outcome);
    }
}
