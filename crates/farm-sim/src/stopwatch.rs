//! How long decisions take in real time. The only clock of this crate: nothing that is simulated may depend on it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use ocluster_scheduling::{Cluster, Effects, Event, Timestamp};
use serde::Serialize;

/// Longer decisions are counted as this long.
const LONGEST_NS: u64 = 10_000_000_000;

/// What a decision is about, as far as costs are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A job is submitted.
    Submit,
    /// A worker asks for a job, or a request that was told to run does.
    Pop,
    /// A queued job is cancelled.
    Cancel,
    /// A running job ends.
    End,
    /// A worker joins: it registers and becomes active.
    Join,
    /// A worker leaves.
    Leave,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(event: &Event) -> Self {
        match event {
            Event::Submitted { .. } | Event::Requeued { .. } => Kind::Submit,
            Event::Asked { .. } | Event::PopResumed { .. } => Kind::Pop,
            Event::Cancelled { .. } => Kind::Cancel,
            Event::Finished { .. } => Kind::End,
            Event::Registered { .. } | Event::WorkerResumed { .. } => Kind::Join,
            Event::Left { .. } => Kind::Leave,
            _ => Kind::Other,
        }
    }

    /// Its name in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Submit => "submit",
            Kind::Pop => "pop",
            Kind::Cancel => "cancel",
            Kind::End => "end",
            Kind::Join => "join",
            Kind::Leave => "leave",
            Kind::Other => "other",
        }
    }
}

/// What decisions of one kind took, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Of which kind.
    pub kind: Kind,
    /// How many there were.
    pub count: u64,
    /// On average.
    pub mean_us: f64,
    /// Half took no longer.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1,000 took no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Measures decisions.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    by_kind: BTreeMap<Kind, Histogram<u64>>,
}

impl Stopwatch {
    /// Lets the core decide, and notes how long that took. A refusal, which decides nothing, is not counted.
    #[expect(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        reason = "the cost of a decision is real time"
    )]
    pub(crate) fn handle(
        &mut self,
        cluster: &mut Cluster,
        now: Timestamp,
        event: Event,
    ) -> Effects {
        let kind = Kind::of(&event);
        let start = std::time::Instant::now();
        let effects = cluster.handle(now, event);
        let took = start.elapsed().as_nanos() as u64;
        if effects.outcome.is_ok() {
            self.note(kind, took);
        }
        effects
    }

    fn note(&mut self, kind: Kind, took: u64) {
        if let Some(known) = self.by_kind.get_mut(&kind) {
            known.saturating_record(took);
        } else if let Ok(mut new) = Histogram::new_with_bounds(1, LONGEST_NS, 3) {
            new.saturating_record(took);
            self.by_kind.insert(kind, new);
        }
    }

    /// What each kind of decision took.
    pub(crate) fn costs(&self) -> Vec<Cost> {
        let us = |ns: u64| ns as f64 / 1000.0;
        let costs = self.by_kind.iter().map(|(kind, seen)| Cost {
            kind: *kind,
            count: seen.len(),
            mean_us: (seen.mean() / 10.0).round() / 100.0,
            p50_us: us(seen.value_at_quantile(0.5)),
            p99_us: us(seen.value_at_quantile(0.99)),
            p999_us: us(seen.value_at_quantile(0.999)),
            max_us: us(seen.max()),
        });
        costs.collect()
    }
}

/// Writes costs as a table.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn write_table(out: &mut impl std::io::Write, costs: &[Cost]) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<10}{:>12}{:>10}{:>10}{:>10}{:>10}{:>12}",
        "decision", "count", "mean us", "p50", "p99", "p99.9", "max"
    )?;
    for cost in costs {
        writeln!(
            out,
            "{:<10}{:>12}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>12.1}",
            cost.kind.name(),
            cost.count,
            cost.mean_us,
            cost.p50_us,
            cost.p99_us,
            cost.p999_us,
            cost.max_us
        )?;
    }
    Ok(())
}
