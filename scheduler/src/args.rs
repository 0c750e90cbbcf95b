//! The command line of `ocluster-scheduler`: OCluster's flags, and ours beside them.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ocluster_cli::{LogArgs, LogCounts, parse_duration};
use ocluster_scheduling::Policy;
use ocluster_vat::{Limits, Location, StrangerLimits};

use crate::config::{Config, Retention};
use crate::limits_args::JobArgs;

/// Where capability files go if nobody says.
const SECRETS_DIR: &str = "./capnp-secrets";

/// Manage build workers: queue jobs in pools and hand them to the workers that ask.
#[derive(Debug, Parser)]
#[command(name = "ocluster-scheduler", version)]
pub struct Args {
    /// File with the secret key; generated if absent. "" for a new key at every start.
    #[arg(long, value_name = "PATH")]
    capnp_secret_key_file: OsString,

    /// Address to listen on: tcp:HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR")]
    capnp_listen_address: Location,

    /// Address to tell others, if it is not the one listened on.
    #[arg(long, value_name = "ADDR")]
    capnp_public_address: Option<Location>,

    /// Do not use TLS.
    #[arg(long)]
    capnp_disable_tls: bool,

    /// Directory for the capability files. Must exist [default: ./capnp-secrets].
    #[arg(long, value_name = "DIR", value_parser = existing_directory)]
    secrets_dir: Option<PathBuf>,

    /// Directory for everything that must survive a restart. Created if absent.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,

    /// Pools to provide.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true, value_parser = non_empty)]
    pools: Vec<String>,

    /// Clients to create, each with a capability file, if they do not exist.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = non_empty)]
    default_clients: Vec<String>,

    /// Serve metrics over HTTP on this port of all interfaces, or on this address.
    #[arg(long, value_name = "PORT|ADDR", value_parser = metrics_address)]
    listen_prometheus: Option<SocketAddr>,

    /// How jobs are placed: for all pools, or POOL=POLICY for one. "balanced" counts running jobs and capacity; "upstream" does
    /// exactly what OCluster does.
    #[arg(long, value_name = "[POOL=]POLICY,...", value_delimiter = ',', default_value = "balanced", value_parser = scheduling)]
    scheduling: Vec<(Option<String>, Policy)>,

    /// Forget where a hint is cached when it was not used for this many days; 0 for never.
    #[arg(
        long,
        value_name = "DAYS",
        default_value_t = 90,
        help_heading = "Keeping"
    )]
    hint_max_age: u32,

    /// Largest log that is kept of one job, in bytes (or with k, M, G); 0 for any size.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = ocluster_cli::parse_size, help_heading = "Keeping")]
    log_max_size: u64,

    /// Remove logs of finished jobs after this time; 0s for never.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_duration, help_heading = "Keeping")]
    log_keep: Duration,

    /// Remove the oldest logs when all take more than this; 0 for no bound.
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = ocluster_cli::parse_size, help_heading = "Keeping")]
    log_keep_size: u64,

    /// Memory for the descriptions of queued jobs; when it is used up, new jobs are refused.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = ocluster_cli::parse_size, help_heading = "Keeping")]
    max_queued: u64,

    /// Number of finished jobs whose records are kept.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        help_heading = "Keeping"
    )]
    job_records: usize,

    /// Drop records of jobs that ended this long ago.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration, help_heading = "Keeping")]
    job_records_keep: Duration,

    /// Refuse new jobs while the filesystem of the state directory has less room than this; 0 for no bound.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = ocluster_cli::parse_size, help_heading = "Keeping")]
    min_free: u64,

    /// Write a copy of all that is remembered into the state directory this often; 0s for never.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration, help_heading = "Keeping")]
    export_every: Duration,

    #[command(flatten)]
    jobs: JobArgs,

    /// Ask a worker for a sign of life after this much silence.
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = parse_duration, help_heading = "Peers")]
    worker_ping: Duration,

    /// Take a worker for dead after this much silence.
    #[arg(long, value_name = "TIME", default_value = "12s", value_parser = parse_duration, help_heading = "Peers")]
    worker_timeout: Duration,

    /// Give up an update when the worker has not come back after this time.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration, help_heading = "Peers")]
    worker_update_timeout: Duration,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// What one peer may cost.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits for one connection")]
struct LimitArgs {
    /// Time for the TLS handshake.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    limit_handshake: Duration,

    /// Largest message.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = ocluster_cli::parse_size)]
    limit_message: u64,

    /// Received messages held at once.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = ocluster_cli::parse_size)]
    limit_received: u64,

    /// Answers waiting to be sent; above a quarter of it nothing more is read from the peer.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = ocluster_cli::parse_size)]
    limit_waiting: u64,

    /// Calls begun and not finished.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    limit_calls: usize,

    /// Calls withdrawn before they were answered, over the life of the connection.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    limit_withdrawn_calls: usize,

    /// Capabilities held.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    limit_capabilities: usize,

    /// Time for the last bytes to leave when the connection is closed.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    limit_goodbye: Duration,

    /// Time to present a valid capability.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    limit_stranger_time: Duration,

    /// Largest message before a valid capability was presented.
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = ocluster_cli::parse_size)]
    limit_stranger_message: u64,

    /// Received messages held at once before a valid capability was presented.
    #[arg(long, value_name = "SIZE", default_value = "256k", value_parser = ocluster_cli::parse_size)]
    limit_stranger_received: u64,

    /// Calls begun and not finished before a valid capability was presented.
    #[arg(long, value_name = "N", default_value_t = 64)]
    limit_stranger_calls: usize,

    /// Connections, from everywhere, that have not presented a valid capability.
    #[arg(long, value_name = "N", default_value_t = 2048)]
    limit_strangers: usize,

    /// Connections, from one address, that have not presented a valid capability.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    limit_strangers_per_host: usize,
}

impl Args {
    /// The logging options, to be put in force first.
    #[must_use]
    pub fn log(&self) -> &LogArgs {
        &self.log
    }

    /// The configuration these arguments ask for.
    ///
    /// # Errors
    /// If they contradict each other.
    pub fn into_config(self, log_counts: LogCounts) -> Result<Config, String> {
        let key_file = Some(PathBuf::from(self.capnp_secret_key_file))
            .filter(|path| !path.as_os_str().is_empty());
        if self.worker_timeout <= self.worker_ping {
            return Err("--worker-timeout must be longer than --worker-ping".to_owned());
        }
        let jobs = self.jobs.policy(&self.pools)?;
        Ok(Config {
            key_file,
            listen: self.capnp_listen_address,
            public: self.capnp_public_address,
            disable_tls: self.capnp_disable_tls,
            secrets_dir: self.secrets_dir.unwrap_or_else(|| SECRETS_DIR.into()),
            state_dir: self.state_dir,
            pools: policies(self.pools, &self.scheduling)?,
            default_clients: self.default_clients,
            listen_prometheus: self.listen_prometheus,
            limits: self.limits.limits(),
            ping_interval: self.worker_ping,
            ping_timeout: self.worker_timeout,
            update_timeout: self.worker_update_timeout,
            max_log_bytes: self.log_max_size,
            max_queued_bytes: bytes(self.max_queued),
            jobs,
            min_free_bytes: self.min_free,
            export_every: Some(self.export_every).filter(|every| !every.is_zero()),
            retention: Retention {
                log_age: Some(self.log_keep).filter(|age| !age.is_zero()),
                log_bytes: Some(self.log_keep_size).filter(|size| *size > 0),
                jobs: self.job_records,
                job_age: self.job_records_keep,
                hint_days: Some(self.hint_max_age).filter(|days| *days > 0),
            },
            log_counts,
            preset_ids: None,
        })
    }
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            handshake_timeout: self.limit_handshake,
            max_message_bytes: bytes(self.limit_message),
            max_bytes_in_flight: bytes(self.limit_received),
            outgoing_high_water: bytes(self.limit_waiting / 4),
            max_outgoing_bytes: bytes(self.limit_waiting),
            max_calls_in_flight: self.limit_calls,
            max_withdrawn_calls: self.limit_withdrawn_calls,
            max_exports: self.limit_capabilities,
            before_sturdy_ref: StrangerLimits {
                deadline: self.limit_stranger_time,
                max_message_bytes: bytes(self.limit_stranger_message),
                max_bytes_in_flight: bytes(self.limit_stranger_received),
                max_calls_in_flight: self.limit_stranger_calls,
                max_connections: self.limit_strangers,
                max_connections_per_ip: self.limit_strangers_per_host,
            },
            close_timeout: self.limit_goodbye,
        }
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Each pool with its policy: its own if one is given, else the general one.
fn policies(
    pools: Vec<String>,
    given: &[(Option<String>, Policy)],
) -> Result<Vec<(String, Policy)>, String> {
    if let Some((Some(stray), _)) = given
        .iter()
        .find(|(pool, _)| pool.as_ref().is_some_and(|pool| !pools.contains(pool)))
    {
        return Err(format!(
            "--scheduling names the pool \"{stray}\", which --pools does not"
        ));
    }
    let last = |wanted: Option<&str>| {
        let mut matching = given.iter().filter(|(pool, _)| pool.as_deref() == wanted);
        matching.next_back().map(|(_, policy)| *policy)
    };
    let general = last(None).unwrap_or_default();
    Ok(pools
        .into_iter()
        .map(|pool| {
            let policy = last(Some(&pool)).unwrap_or(general);
            (pool, policy)
        })
        .collect())
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a name is empty".to_owned());
    }
    Ok(text.to_owned())
}

fn existing_directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() {
        return Ok(path);
    }
    Err(format!(
        "no '{text}' directory: create it (mode 0700), or give another"
    ))
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    text.parse()
        .map_err(|_| "expected a port, or an address such as 127.0.0.1:9090".to_owned())
}

fn scheduling(text: &str) -> Result<(Option<String>, Policy), String> {
    let (pool, policy) = match text.split_once('=') {
        Some((pool, policy)) => (Some(pool.to_owned()), policy),
        None => (None, text),
    };
    let policy: Policy = policy.parse().map_err(|error| format!("{error}"))?;
    Ok((pool, policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Result<Config, String> {
        let required = "ocluster-scheduler --capnp-secret-key-file=key --capnp-listen-address=tcp:127.0.0.1:0 --state-dir=s";
        let line = format!("{required} {line}");
        let args: Args = ocluster_cli::args::parse_from(line.split_whitespace().map(str::to_owned))
            .map_err(|ended| format!("{ended:?}"))?;
        args.into_config(LogCounts::new())
    }

    #[test]
    fn each_pool_has_its_own_policy_or_the_general_one() {
        let pools = |line: &str| config(line).unwrap().pools;
        assert_eq!(
            pools("--pools=a,b"),
            [
                ("a".into(), Policy::Balanced),
                ("b".into(), Policy::Balanced)
            ]
        );
        assert_eq!(
            pools("--pools=a,b --scheduling=upstream,b=balanced"),
            [
                ("a".into(), Policy::Upstream),
                ("b".into(), Policy::Balanced)
            ]
        );
    }

    #[test]
    fn a_policy_for_no_pool_is_a_mistake() {
        let error = config("--pools=a --scheduling=x=upstream").unwrap_err();
        assert_eq!(
            error,
            "--scheduling names the pool \"x\", which --pools does not"
        );
        assert!(
            config("--pools=a --scheduling=fastest")
                .unwrap_err()
                .contains("fastest")
        );
    }

    #[test]
    fn prometheus_takes_a_port_or_an_address() {
        let address = |line: &str| {
            config(&format!("--pools=a {line}")).map(|config| config.listen_prometheus)
        };
        assert_eq!(address("").unwrap(), None);
        assert_eq!(
            address("--listen-prometheus=9090")
                .unwrap()
                .unwrap()
                .to_string(),
            "0.0.0.0:9090"
        );
        assert_eq!(
            address("--listen-prometheus=127.0.0.1:9090")
                .unwrap()
                .unwrap()
                .to_string(),
            "127.0.0.1:9090"
        );
        let ipv6 = address("--listen-prometheus=[::1]:9090").unwrap();
        assert_eq!(ipv6.unwrap().to_string(), "[::1]:9090");
        assert!(address("--listen-prometheus=here").is_err());
    }

    #[test]
    fn every_limit_can_be_set_and_reaches_its_place() {
        type Change = fn(&mut Limits);
        let limits = |line: &str| config(&format!("--pools=a {line}")).unwrap().limits;
        let default = limits("");
        let with = |change: Change| {
            let mut changed = default.clone();
            change(&mut changed);
            assert_ne!(changed, default, "the change is none");
            changed
        };
        let cases: [(&str, Change); 14] = [
            ("--limit-handshake=1s", |l| {
                l.handshake_timeout = Duration::from_secs(1);
            }),
            ("--limit-message=1M", |l| l.max_message_bytes = 1 << 20),
            ("--limit-received=2M", |l| l.max_bytes_in_flight = 2 << 20),
            ("--limit-waiting=4M", |l| {
                l.max_outgoing_bytes = 4 << 20;
                l.outgoing_high_water = 1 << 20;
            }),
            ("--limit-calls=5", |l| l.max_calls_in_flight = 5),
            ("--limit-withdrawn-calls=13", |l| l.max_withdrawn_calls = 13),
            ("--limit-capabilities=6", |l| l.max_exports = 6),
            ("--limit-goodbye=14s", |l| {
                l.close_timeout = Duration::from_secs(14);
            }),
            ("--limit-stranger-time=7s", |l| {
                l.before_sturdy_ref.deadline = Duration::from_secs(7);
            }),
            ("--limit-stranger-message=8k", |l| {
                l.before_sturdy_ref.max_message_bytes = 8 << 10;
            }),
            ("--limit-stranger-received=9k", |l| {
                l.before_sturdy_ref.max_bytes_in_flight = 9 << 10;
            }),
            ("--limit-stranger-calls=10", |l| {
                l.before_sturdy_ref.max_calls_in_flight = 10;
            }),
            ("--limit-strangers=11", |l| {
                l.before_sturdy_ref.max_connections = 11;
            }),
            ("--limit-strangers-per-host=12", |l| {
                l.before_sturdy_ref.max_connections_per_ip = 12;
            }),
        ];
        for (flag, change) in cases {
            assert_eq!(limits(flag), with(change), "{flag}");
        }
        // Every flag there is has its case.
        let command = <Args as clap::CommandFactory>::command();
        let mut flags: Vec<&str> = command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .filter(|flag| flag.starts_with("limit-"))
            .collect();
        let mut covered: Vec<&str> = cases
            .iter()
            .filter_map(|(flag, _)| flag.strip_prefix("--")?.split('=').next())
            .collect();
        flags.sort_unstable();
        covered.sort_unstable();
        assert_eq!(flags, covered);
    }

    #[test]
    fn room_and_exports_can_be_set_and_switched_off() {
        let set = |line: &str| {
            let config = config(&format!("--pools=a {line}")).unwrap();
            (config.min_free_bytes, config.export_every)
        };
        assert_eq!(set(""), (256 << 20, Some(Duration::from_secs(3600))));
        assert_eq!(
            set("--min-free=1G --export-every=10m"),
            (1 << 30, Some(Duration::from_secs(600)))
        );
        assert_eq!(set("--min-free=0 --export-every=0s"), (0, None));
    }

    #[test]
    fn limits_of_jobs_reach_the_configuration() {
        let jobs = config("--pools=a --max-attempts=5 --time-limit=a:running=1h")
            .unwrap()
            .jobs;
        assert_eq!(jobs.max_attempts, 5);
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(
            jobs.pool_limits.get("a").map(|own| own.running.default),
            Some(hour)
        );
        assert_eq!(
            config("--pools=a --time-limit=b:running=1h").unwrap_err(),
            "--time-limit names the pool \"b\", which --pools does not"
        );
    }

    #[test]
    fn an_empty_key_file_means_a_new_key_each_time() {
        let line = "ocluster-scheduler --capnp-secret-key-file= --capnp-listen-address=tcp:127.0.0.1:0 --state-dir=s --pools=a";
        let args: Args =
            ocluster_cli::args::parse_from(line.split(' ').map(str::to_owned)).unwrap();
        assert_eq!(args.into_config(LogCounts::new()).unwrap().key_file, None);
    }
}
