//! Everything that can be set about a scheduler, in plain types. The command line is one way to fill it in; tests are another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ocluster_cli::LogCounts;
use ocluster_scheduling::Policy;
use ocluster_vat::{Limits, Location, ServiceId};

/// How to run a scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the secret key lies. `None`: a new key every time.
    pub key_file: Option<PathBuf>,
    /// Where to listen for workers, clients and admins.
    pub listen: Location,
    /// The address that goes into `.cap` files, if it is not the one listened on.
    pub public: Option<Location>,
    /// Plain connections instead of TLS.
    pub disable_tls: bool,
    /// Where `.cap` files are written. Must exist.
    pub secrets_dir: PathBuf,
    /// Where the scheduler remembers. Created if its parent exists.
    pub state_dir: PathBuf,
    /// The pools and their policies; later mentions of a name are ignored.
    pub pools: Vec<(String, Policy)>,
    /// Clients to be created with a `.cap` file if they have none.
    pub default_clients: Vec<String>,
    /// Where to serve metrics.
    pub listen_prometheus: Option<SocketAddr>,
    /// What one peer may cost.
    pub limits: Limits,
    /// A worker that was silent for this long is asked for a sign of life.
    pub ping_interval: Duration,
    /// A worker that was silent for this long is taken for dead.
    pub ping_timeout: Duration,
    /// How long a worker that is updated may take to come back.
    pub update_timeout: Duration,
    /// The largest log that is kept of one job, in bytes; 0 for any size.
    pub max_log_bytes: u64,
    /// How much memory the descriptions of queued jobs may take, in bytes.
    pub max_queued_bytes: usize,
    /// What jobs may take, and what becomes of those whose workers fail.
    pub jobs: JobPolicy,
    /// Free bytes of the filesystem of the state directory below which new jobs are refused; 0 for no bound.
    pub min_free_bytes: u64,
    /// How often a copy of all that is remembered is written beside the store; `None` for never.
    pub export_every: Option<Duration>,
    /// What is kept for how long.
    pub retention: Retention,
    /// Log lines counted so far.
    pub log_counts: LogCounts,
    /// Services with other ids than those derived from the key, for tests that replay recorded sessions.
    pub preset_ids: Option<PresetIds>,
}

/// What is kept for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The age at which a finished job's log is removed.
    pub log_age: Option<Duration>,
    /// The size of all logs above which the oldest are removed, in bytes.
    pub log_bytes: Option<u64>,
    /// The number of finished jobs whose records are kept.
    pub jobs: usize,
    /// The age at which a finished job's record is dropped.
    pub job_age: Duration,
    /// The age in days at which a hint no longer says where a cache is; `None` for never.
    pub hint_days: Option<u32>,
}

/// What jobs may take, and what becomes of those whose workers fail.
#[derive(Clone, Debug)]
pub struct JobPolicy {
    /// How often a durable job is tried on workers that fail before it is given up; at least 1.
    pub max_attempts: u32,
    /// After a start, how long workers may take to come back and say what they still run.
    pub readopt_grace: Duration,
    /// Time limits of pools without their own.
    pub limits: PoolLimits,
    /// Time limits of these pools.
    pub pool_limits: BTreeMap<String, PoolLimits>,
    /// Quotas of clients without their own.
    pub quota: Quota,
    /// Quotas of these clients.
    pub client_quotas: BTreeMap<String, Quota>,
}

impl Default for JobPolicy {
    /// Three attempts, two minutes for workers to come back, no limits and no quotas.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            readopt_grace: Duration::from_secs(120),
            limits: PoolLimits::default(),
            pool_limits: BTreeMap::new(),
            quota: Quota::default(),
            client_quotas: BTreeMap::new(),
        }
    }
}

/// The time limits of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolLimits {
    /// How long one attempt may run.
    pub running: LimitRange,
    /// How long a job may wait for workers, all in all.
    pub queued: LimitRange,
    /// How long a job may run without printing anything.
    pub silent: LimitRange,
}

/// A limit for jobs that do not ask for one, and the largest they may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitRange {
    /// For jobs that do not ask; none if there is none.
    pub default: Option<Duration>,
    /// What is asked for above this is refused, and jobs without any limit have this one.
    pub max: Option<Duration>,
}

/// What a client may use. No bound where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Jobs that run at once in one pool; others wait.
    pub running: Option<u32>,
    /// Jobs that are queued, in all pools; further ones are refused.
    pub queued: Option<u32>,
    /// Bytes of one job's description; larger ones are refused.
    pub description: Option<u64>,
    /// Bytes of one job's log; what is above is dropped.
    pub log: Option<u64>,
}

/// Given ids of services.
#[derive(Clone, Debug)]
pub struct PresetIds {
    /// Of the admin service.
    pub admin: ServiceId,
    /// Of each pool's registration, by the pool's name.
    pub pools: Vec<(String, ServiceId)>,
    /// Of clients' access, by the client's name. They are added at start.
    pub clients: Vec<(String, ServiceId)>,
}
