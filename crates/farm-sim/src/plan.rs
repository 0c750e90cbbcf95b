//! What kind of farm a seed stands for: its pools, workers, clients and bounds, and what a job is made of.

use std::collections::BTreeMap;

use ocluster_scheduling::{Policy, Rate, RunningQuota};

use crate::chance::{Chance, HOUR, MINUTE, Ms, SECOND};

/// The mean duration of a job, roughly, by which arrivals are paced.
const MEAN_JOB: Ms = 200 * SECOND;

/// A farm.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) workers: Vec<WorkerPlan>,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) max_running: RunningQuota,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct PoolPlan {
    pub(crate) name: String,
    pub(crate) policy: Policy,
}

/// A worker.
#[derive(Debug)]
pub(crate) struct WorkerPlan {
    pub(crate) pool: usize,
    pub(crate) name: String,
    pub(crate) capacity: u32,
}

/// A client.
#[derive(Debug)]
pub(crate) struct ClientPlan {
    pub(crate) name: String,
    pub(crate) rate: Rate,
    /// The mean time between two of its jobs.
    pub(crate) every: Ms,
}

/// How an attempt ends if it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The job succeeded.
    Passed,
    /// The job failed by its own fault, and is not tried again.
    Failed,
    /// Something else failed.
    Broken,
    /// The worker dies of it.
    Deadly,
}

/// What a job does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) duration: Ms,
    pub(crate) outcome: Outcome,
    /// So many attempts break before one ends as it should.
    pub(crate) breaks: u32,
}

impl Plan {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let mut pools = Vec::new();
        let mut workers = Vec::new();
        let mut slots = 0;
        for pool in 0..chance.between(1, 2) as usize {
            let policy = match chance.permille(700) {
                true => Policy::Balanced,
                false => Policy::Upstream,
            };
            let name = format!("pool-{pool}");
            pools.push(PoolPlan { name, policy });
            for worker in 0..chance.between(1, 6) {
                let capacity = chance.between(1, 4) as u32;
                slots += u64::from(capacity);
                let name = format!("worker-{pool}-{worker}");
                workers.push(WorkerPlan {
                    pool,
                    name,
                    capacity,
                });
            }
        }
        let count = chance.between(2, 6);
        // Percent of what the farm could do if nothing ever failed.
        let load = chance.between(30, 95);
        let every = MEAN_JOB * count * 100 / (slots * load);
        let mut clients = Vec::new();
        for client in 0..count {
            let rate = Rate::new(chance.between(1, 8) as f64 / 2.0).unwrap_or_default();
            let name = format!("client-{client}");
            clients.push(ClientPlan { name, rate, every });
        }
        let mut plan = Self {
            pools,
            workers,
            clients,
            max_running: RunningQuota::default(),
        };
        plan.draw_quotas(chance, 300);
        plan
    }

    /// Bounds for all clients, and for some of them, each in so many cases of a thousand.
    pub(crate) fn draw_quotas(&mut self, chance: &mut Chance, permille: u64) {
        let mut bound = || {
            let bounded = chance.permille(permille);
            bounded.then(|| chance.between(1, 8) as u32)
        };
        let general = bound();
        let of_client: BTreeMap<_, _> = self
            .clients
            .iter()
            .filter_map(|client| Some((client.name.as_str().into(), bound()?)))
            .collect();
        self.max_running = RunningQuota { general, of_client };
    }
}

impl Work {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let outcome = match chance.between(0, 999) {
            0..=99 => Outcome::Failed,
            100 => Outcome::Deadly,
            _ => Outcome::Passed,
        };
        Self {
            duration: chance.heavy_tailed(MINUTE, 2 * HOUR),
            outcome,
            breaks: if chance.permille(20) {
                chance.between(1, 4) as u32
            } else {
                0
            },
        }
    }

    /// How this attempt goes.
    pub(crate) fn attempt(self, number: u32) -> Outcome {
        if number <= self.breaks {
            Outcome::Broken
        } else {
            self.outcome
        }
    }
}
