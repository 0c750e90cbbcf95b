//! What a day came to, as data and as a table.

use std::io::Write;

use serde::Serialize;

use crate::stopwatch::{Cost, write_table};

use super::args::DayArgs;
use super::load::Load;

/// What came of a day under one policy. All but `decisions` follows from the arguments alone.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The policy.
    pub policy: &'static str,
    /// Jobs that were run: all.
    pub jobs_run: u64,
    /// The most jobs that were queued at once.
    pub most_queued: u64,
    /// When the last job was over, in seconds since the day began.
    pub makespan_s: f64,
    /// That as a multiple of the lower bound.
    pub makespan_to_bound: f64,
    /// The part of the jobs with a hint that found it cached.
    pub hit_rate: f64,
    /// What all jobs took, in slot-seconds.
    pub work_slot_s: f64,
    /// How long a job waited on average, in seconds.
    pub wait_mean_s: f64,
    /// Half of the jobs waited no longer.
    pub wait_p50_s: f64,
    /// 99 of 100 waited no longer.
    pub wait_p99_s: f64,
    /// The longest wait.
    pub wait_max_s: f64,
    /// Jain's index over what clients got within ten minutes throughout which they had jobs queued; the mean, weighted by clients.
    pub jain_of_share: f64,
    /// Jain's index over the mean slowdown of clients.
    pub jain_of_slowdown: f64,
    /// The longest wait of any job of the half of the clients with the fewest jobs.
    pub longest_wait_small_half_s: f64,
    /// The longest wait of the client with the fewest jobs.
    pub longest_wait_smallest_s: f64,
    /// What decisions took in real time.
    pub decisions: Vec<Cost>,
}

/// What came of a day.
#[derive(Debug, Clone, Serialize)]
pub struct DayReport {
    /// Workers.
    pub workers: u32,
    /// Slots of all workers.
    pub slots: u64,
    /// Clients.
    pub clients: u32,
    /// Jobs that arrived.
    pub jobs: u32,
    /// What chance started from.
    pub seed: u64,
    /// Before this time, in seconds since the day began, the last job cannot be over, however it is decided.
    pub lower_bound_s: f64,
    /// One for each policy.
    pub policies: Vec<Outcome>,
}

impl DayReport {
    pub(crate) fn new(args: &DayArgs, load: &Load, policies: Vec<Outcome>) -> Self {
        let slots = u64::from(args.workers) * u64::from(args.slots);
        Self {
            workers: args.workers,
            slots,
            clients: args.clients,
            jobs: args.jobs,
            seed: args.seed,
            lower_bound_s: load.lower_bound(slots) as f64 / 1000.0,
            policies,
        }
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "{} workers with {} slots, {} clients, {} jobs, seed {}; lower bound {:.0} s",
            self.workers, self.slots, self.clients, self.jobs, self.seed, self.lower_bound_s
        )?;
        write!(out, "{:<34}", "")?;
        for outcome in &self.policies {
            write!(out, "{:>14}", outcome.policy)?;
        }
        writeln!(out)?;
        for (name, figure, digits) in FIGURES {
            write!(out, "{name:<34}")?;
            for outcome in &self.policies {
                write!(out, "{:>14.digits$}", figure(outcome))?;
            }
            writeln!(out)?;
        }
        for outcome in &self.policies {
            writeln!(out, "\n{}", outcome.policy)?;
            write_table(out, &outcome.decisions)?;
        }
        Ok(())
    }
}

type Figure = (&'static str, fn(&Outcome) -> f64, usize);

const FIGURES: [Figure; 14] = [
    ("jobs run", |o| o.jobs_run as f64, 0),
    ("most queued at once", |o| o.most_queued as f64, 0),
    ("makespan, s", |o| o.makespan_s, 0),
    ("makespan / lower bound", |o| o.makespan_to_bound, 3),
    ("cache hits, % of hinted jobs", |o| o.hit_rate * 100.0, 1),
    ("work, slot-hours", |o| o.work_slot_s / 3600.0, 0),
    ("wait: mean, s", |o| o.wait_mean_s, 1),
    ("wait: p50, s", |o| o.wait_p50_s, 1),
    ("wait: p99, s", |o| o.wait_p99_s, 1),
    ("wait: longest, s", |o| o.wait_max_s, 1),
    ("Jain index of shares", |o| o.jain_of_share, 3),
    ("Jain index of slowdown", |o| o.jain_of_slowdown, 3),
    (
        "longest wait, smaller half, s",
        |o| o.longest_wait_small_half_s,
        1,
    ),
    (
        "longest wait, smallest client, s",
        |o| o.longest_wait_smallest_s,
        1,
    ),
];
