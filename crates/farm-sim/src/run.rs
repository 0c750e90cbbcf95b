//! Runs histories, one for each seed, and adds up what happened.

use std::fmt;

use crate::fault::{Fault, FaultCounts};
use crate::world::World;

/// What came of one history.
#[derive(Debug)]
pub struct History {
    /// Its seed.
    pub seed: u64,
    /// Simulated hours with jobs and faults; what it took after them to let all jobs end is not counted.
    pub hours: u64,
    /// Jobs that were accepted.
    pub jobs: u64,
    /// Times at which clients were compared in what they got.
    pub rushes: u64,
    /// Faults.
    pub faults: FaultCounts,
    /// Stands for all that happened.
    pub digest: u64,
    /// The first promise that was broken, and what happened before.
    pub violation: Option<Violation>,
}

/// A broken promise.
#[derive(Debug)]
pub struct Violation {
    /// What was seen.
    pub what: String,
    /// The last that happened before, one line for each.
    pub tail: Vec<String>,
}

/// Lives through the history of a seed.
pub fn run(seed: u64, hours: u64) -> History {
    let mut world = World::new(seed);
    world.live(hours);
    let violation = world.checker.violation().map(|what| Violation {
        what: what.to_owned(),
        tail: world.trace.tail(),
    });
    History {
        seed,
        hours,
        jobs: world.checker.accepted_jobs(),
        rushes: world.checker.rushes(),
        faults: world.faults,
        digest: world.trace.digest(),
        violation,
    }
}

/// What came of many.
#[derive(Debug, Default)]
pub struct Report {
    seeds: u64,
    hours: u64,
    jobs: u64,
    rushes: u64,
    faults: FaultCounts,
}

impl Report {
    /// Adds a history.
    pub fn add(&mut self, history: &History) {
        self.seeds += 1;
        self.hours += history.hours;
        self.jobs += history.jobs;
        self.rushes += history.rushes;
        self.faults.add(&history.faults);
    }

    /// How often this kind of fault happened.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults.of(fault)
    }

    /// Times at which clients were compared.
    pub fn rushes(&self) -> u64 {
        self.rushes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26}{:>12}", "histories", self.seeds)?;
        writeln!(f, "{:<26}{:>12}", "cluster-hours", self.hours)?;
        writeln!(f, "{:<26}{:>12}", "jobs accepted", self.jobs)?;
        writeln!(f, "{:<26}{:>12}", "fairness measurements", self.rushes)?;
        for fault in Fault::ALL {
            let count = self.faults.of(fault);
            writeln!(f, "{:<26}{:>12}", fault.name(), count)?;
        }
        Ok(())
    }
}
