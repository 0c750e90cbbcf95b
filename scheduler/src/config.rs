//! Everything that can be set about a scheduler, in plain types. The command line is one way to fill it in; tests are another.

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
