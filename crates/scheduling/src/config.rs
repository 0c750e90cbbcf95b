//! What the core is told once, at its start: the pools, their policies, and the costs assumed.

use std::collections::BTreeMap;

use crate::ids::{ClientId, PoolName};
use crate::policy::Policy;

/// Estimated seconds a job takes; the same for every job of every pool, until `balanced` has seen what jobs of a hint really take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// A job whose hint is cached where it runs.
    pub cached: u32,
    /// Any other job. Also the workload beyond which a worker is not preferred any more.
    pub non_cached: u32,
}

impl Default for Costs {
    /// OCluster's production figures: 10 and 600 seconds.
    fn default() -> Self {
        Self {
            cached: 10,
            non_cached: 600,
        }
    }
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: PoolName,
    /// How it decides.
    pub policy: Policy,
}

/// Everything the core is told at its start.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The pools. Of several with one name, the first counts.
    pub pools: Vec<PoolConfig>,
    /// The costs assumed.
    pub costs: Costs,
    /// Forget that a worker has a hint cached this many days after it last ran such a job; `None`: never.
    pub hint_max_age: Option<u32>,
    /// How many jobs of one client may run at once in each pool; what is above waits without being in anybody's way.
    pub max_running: RunningQuota,
}

/// Bounds on the jobs of one client that run at once in a pool. No bound where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunningQuota {
    /// For clients without a bound of their own.
    pub general: Option<u32>,
    /// For these clients.
    pub of_client: BTreeMap<ClientId, u32>,
}
