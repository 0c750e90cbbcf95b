//! What a seed means: how large the cluster is, what its clients want, and what goes wrong when. Made before anything runs, so that
//! nothing that happens can change it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::faults::{self, Schedule};
use crate::work::{Ending, Work};

/// One job of a client.
#[derive(Clone, Debug)]
pub struct PlannedJob {
    /// What it does.
    pub work: Work,
    /// When it is submitted.
    pub at: Duration,
    /// Whether it goes before others.
    pub urgent: bool,
    /// Whether it lives only as long as its client.
    pub attached: bool,
    /// How long after its submission its client cancels it, if it does.
    pub cancel_after: Option<Duration>,
}

/// A worker.
#[derive(Clone, Debug)]
pub struct PlannedWorker {
    /// Its host and its name.
    pub name: String,
    /// How many jobs it runs at once.
    pub capacity: u32,
}

/// A client and its jobs.
#[derive(Clone, Debug)]
pub struct PlannedClient {
    /// Its host and its name.
    pub name: String,
    /// What it submits.
    pub jobs: Vec<PlannedJob>,
}

/// A cluster and its fate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all of it comes from.
    pub seed: u64,
    /// The workers.
    pub workers: Vec<PlannedWorker>,
    /// The clients.
    pub clients: Vec<PlannedClient>,
    /// How long things go wrong.
    pub troubled: Duration,
    /// What goes wrong, and when.
    pub faults: Schedule,
}

impl Plan {
    /// The plan of this seed, for a cluster that is in trouble for this long.
    #[must_use]
    pub fn of(seed: u64, troubled: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let workers: Vec<PlannedWorker> = (0..rng.random_range(3..=8))
            .map(|number| PlannedWorker {
                name: format!("worker-{number}"),
                capacity: rng.random_range(1..=3),
            })
            .collect();
        let clients: Vec<PlannedClient> = (0..rng.random_range(2..=4))
            .map(|number| client(&mut rng, number, troubled))
            .collect();
        let names = |names: &[String]| names.to_vec();
        let worker_names: Vec<String> = workers.iter().map(|worker| worker.name.clone()).collect();
        let client_names: Vec<String> = clients.iter().map(|client| client.name.clone()).collect();
        let faults = faults::schedule(
            &mut rng,
            &names(&worker_names),
            &names(&client_names),
            troubled,
        );
        Self {
            seed,
            workers,
            clients,
            troubled,
            faults,
        }
    }

    /// All jobs of all clients.
    pub fn jobs(&self) -> impl Iterator<Item = &PlannedJob> {
        self.clients.iter().flat_map(|client| &client.jobs)
    }
}

fn client(rng: &mut StdRng, number: usize, troubled: Duration) -> PlannedClient {
    let name = format!("client-{number}");
    let mut jobs = Vec::new();
    let mut at = Duration::from_secs(rng.random_range(5..30));
    while at < troubled {
        // Now and then a client submits many at once.
        let burst = if rng.random_bool(0.1) {
            rng.random_range(2..20)
        } else {
            1
        };
        for _ in 0..burst {
            let key = format!("{name}/{}", jobs.len());
            jobs.push(job(rng, key, at));
        }
        at += Duration::from_millis(rng.random_range(1_000..90_000));
    }
    PlannedClient { name, jobs }
}

fn job(rng: &mut StdRng, key: String, at: Duration) -> PlannedJob {
    let ending = *[
        (Ending::Pass, 80),
        (Ending::Fail, 12),
        (Ending::FailSetup, 3),
        (Ending::Hang, 5),
    ]
    .choose_weighted(rng, |(_, weight)| *weight)
    .map_or(&Ending::Pass, |(ending, _)| ending);
    let long = rng.random_bool(0.1);
    let work = Work {
        key,
        lines: rng.random_range(0..40),
        padding: if rng.random_bool(0.05) {
            rng.random_range(0..20_000)
        } else {
            rng.random_range(0..60)
        },
        every_ms: if long {
            rng.random_range(5_000..20_000)
        } else {
            rng.random_range(0..2_000)
        },
        ending,
    };
    let cancelled = ending == Ending::Hang || rng.random_bool(0.08);
    PlannedJob {
        work,
        at,
        urgent: rng.random_bool(0.1),
        attached: rng.random_bool(0.1),
        cancel_after: cancelled.then(|| Duration::from_millis(rng.random_range(0..300_000))),
    }
}
