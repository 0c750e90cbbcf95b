//! What a scheduler stands on when that is not the machine: network, clock, disks. A simulation brings its own, in which one seed gives
//! one history.
//!
//! It must change nothing of what the scheduler does: no code above asks what it runs on.

use std::sync::Arc;

use ocluster_joblog::{LogConfig, LogStore, Pace};
use ocluster_store::{Store, Writer, day_of_ms};
use ocluster_vat::{ListenError, Listener, Location, SecretKey, Transport};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::run::{self, Prepared, Started};

/// What a scheduler stands on in place of the machine.
pub struct Surroundings {
    /// Where it listens.
    pub network: Arc<dyn Transport>,
    /// The time it goes by.
    pub clock: Box<dyn Clock>,
    /// What survives it.
    pub store: Box<dyn Store>,
    /// What writes to the store.
    pub writer: Box<dyn FnOnce(Box<dyn Store>) -> Writer>,
    /// How long each write to the disk of the logs takes.
    pub log_pace: Pace,
}

/// As [`run::run`], on these surroundings and on the current runtime alone: no thread is started. [`Config::key_file`] must be set or
/// the key is another one each time; [`Config::listen_prometheus`] must not be.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run_in(
    surroundings: Surroundings,
    config: Config,
    shutdown: CancellationToken,
    started: impl FnOnce(Started),
) -> anyhow::Result<()> {
    let Surroundings {
        network,
        clock,
        store,
        writer,
        log_pace,
    } = surroundings;
    let key = match &config.key_file {
        Some(path) => SecretKey::load_or_create(path)?.0,
        None => SecretKey::ephemeral()?,
    };
    run::create_dir(&config.state_dir)?;
    let min_day = config
        .retention
        .hint_days
        .map_or(0, |days| day_of_ms(clock.now_ms()).saturating_sub(days));
    let snapshot = store.load_without_jobs(min_day)?;
    let log_config = LogConfig {
        max_log_bytes: config.max_log_bytes,
        // What a client has read, it must find again after a restart.
        readers_wait_for_disk: true,
        ..LogConfig::default()
    };
    let prepared = Prepared {
        key,
        snapshot,
        writer: writer(store),
        space: None,
        logs: LogStore::open_threadless(&config.state_dir.join("logs"), log_config, log_pace)?,
        clock,
        network: Some(network),
    };
    let here = tokio::runtime::Handle::current();
    run::serve(config, prepared, here, shutdown, started).await
}

/// Listens on the machine's network, or on another.
pub(crate) async fn listen(
    network: Option<&dyn Transport>,
    location: &Location,
) -> Result<Listener, ListenError> {
    match network {
        None => Listener::bind(location),
        Some(network) => Listener::over(network, location).await,
    }
}
