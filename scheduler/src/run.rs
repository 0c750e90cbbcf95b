//! Starting, serving and stopping a scheduler.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ocluster_cli::logging::APPLICATION;
use ocluster_joblog::{LogConfig, LogStore};
use ocluster_scheduling::{ClientId, Cluster, PoolConfig, PoolName, RunningQuota};
use ocluster_store::{
    JobIds, SledOptions, SledStore, Snapshot, Store as _, Writer, WriterConfig, day_of_ms,
};
use ocluster_vat::{
    Address, Digest, Location, SecretKey, Server, ServiceId, Stats, SturdyRef, Transport,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clients::Clients;
use crate::clock::{Clock, SystemClock};
use crate::closing::Closing;
use crate::config::{Config, PresetIds};
use crate::durable::Table;
use crate::metrics::Counters;
use crate::records::{self, Records};
use crate::restorer::ClusterRestorer;
use crate::rpc::{ClientAccess, Liveness};
use crate::seal::Seal;
use crate::space::SpaceGuard;
use crate::state::Scheduler;
use crate::{
    default_clients, durable, export, housekeeping, http, migrate, reexec, space, status,
    surroundings,
};

/// How long the last answers may take to leave, and the disks to be written, when the scheduler stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connections get for their goodbye when the store has failed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A scheduler that is ready: what tests and logs want to know of it.
#[derive(Debug)]
pub struct Started {
    /// Where it listens, with the real port if 0 was asked for.
    pub listening: Location,
    /// Where it serves metrics.
    pub metrics: Option<std::net::SocketAddr>,
}

/// Runs a scheduler on the current thread, which becomes its vat thread, until `shutdown`.
///
/// Must be polled inside a [`tokio::task::LocalSet`] on a current-thread runtime. `started` is called once everything is up.
///
/// # Errors
/// Whatever keeps it from starting, as one sentence that says what to do; nothing after that.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    started: impl FnOnce(Started),
) -> anyhow::Result<()> {
    let prepared = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || Prepared::open(&config)).await??
    };
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = serve(config, prepared, io.handle().clone(), shutdown, started).await;
    io.shutdown_background();
    result
}

/// What was read from disk, and what the scheduler stands on.
pub(crate) struct Prepared {
    pub(crate) key: SecretKey,
    pub(crate) snapshot: Snapshot,
    pub(crate) writer: Writer,
    pub(crate) logs: LogStore,
    /// Watches the room on the disk, if there is one.
    pub(crate) space: Option<SpaceGuard>,
    pub(crate) clock: Box<dyn Clock>,
    /// In place of the machine's, if there is one.
    pub(crate) network: Option<Arc<dyn Transport>>,
}

impl Prepared {
    fn open(config: &Config) -> anyhow::Result<Self> {
        if !config.secrets_dir.is_dir() {
            bail!(
                "the secrets directory {} does not exist: create it (mode 0700), or give another --secrets-dir",
                config.secrets_dir.display()
            );
        }
        // Before anything is made that would have to be removed again.
        if !SledStore::exists(&config.state_dir) {
            migrate::refuse_to_forget(&config.state_dir, None)?;
        }
        let key = match &config.key_file {
            Some(path) => {
                let (key, created) = SecretKey::load_or_create(path)?;
                if created {
                    info!("Generated a new secret key in \"{}\"", path.display());
                }
                key
            }
            None => SecretKey::ephemeral()?,
        };
        create_dir(&config.state_dir)?;
        space::require_room_for_store(&config.state_dir)?;
        let store = SledStore::open(&config.state_dir, SledOptions::default())?;
        let min_day = config.retention.hint_days.map_or(0, |days| {
            day_of_ms(SystemClock.now_ms()).saturating_sub(days)
        });
        let snapshot = store.load_without_jobs(min_day)?;
        migrate::refuse_to_forget(&config.state_dir, Some(&snapshot))?;
        let writer = Writer::start(Box::new(store), WriterConfig::default())?;
        let logs = LogStore::open(
            &config.state_dir.join("logs"),
            LogConfig {
                max_log_bytes: config.max_log_bytes,
                // What a client has read, it must find again after a restart.
                readers_wait_for_disk: true,
                ..LogConfig::default()
            },
        )?;
        let space = SpaceGuard::new(&config.state_dir, config.min_free_bytes);
        Ok(Self {
            key,
            snapshot,
            writer,
            logs,
            space: Some(space),
            clock: Box::new(SystemClock),
            network: None,
        })
    }
}

pub(crate) fn create_dir(dir: &Path) -> anyhow::Result<()> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot create the state directory {}", dir.display())),
    }
}

pub(crate) async fn serve(
    config: Config,
    prepared: Prepared,
    io: tokio::runtime::Handle,
    shutdown: CancellationToken,
    started: impl FnOnce(Started),
) -> anyhow::Result<()> {
    let Prepared {
        key,
        snapshot,
        writer,
        logs,
        space,
        clock,
        network,
    } = prepared;
    let _looking = space.as_ref().map(|space| space.keep_looking(&io));
    let store = writer.handle();
    let writer = Closing::new(writer);
    let records = Records::new(store.clone());
    let job_ids = JobIds::start(store, snapshot.next_job_id).await?;
    let table = Table::new(
        space.clone(),
        config.jobs.clone(),
        config.ping_timeout,
        Seal::derive(&key),
        config.key_file.is_some(),
    );
    let scheduler = Scheduler::new(
        cluster(&config, &snapshot),
        clients(&config, &snapshot),
        records,
        job_ids,
        logs.clone(),
        clock,
        table,
    );
    let scheduler = Rc::new(
        scheduler
            .with_max_queued_bytes(config.max_queued_bytes)
            .with_update_timeout(config.update_timeout),
    );
    durable::restore(&scheduler).await?;

    let listener = surroundings::listen(network.as_deref(), &config.listen).await?;
    let listening = listener.local_location().clone();
    let public = Address::new(
        config.public.clone().unwrap_or_else(|| listening.clone()),
        if config.disable_tls {
            Digest::Insecure
        } else {
            key.digest()
        },
    );
    if let Location::Tcp { host, .. } = &public.location
        && host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified())
    {
        warn!(
            "Capability files will say {}, which leads nowhere from other machines: give --capnp-public-address",
            public.location
        );
    }
    let ids = ServiceIds::new(&config, &key);
    let access = ClientAccess::new(scheduler.clone(), public.clone());
    default_clients::ensure(
        &scheduler,
        &access,
        &config.secrets_dir,
        &config.default_clients,
    )
    .await?;
    let metrics_listener = match config.listen_prometheus {
        Some(address) => Some(http::bind(address, &io).await?),
        None => None,
    };
    let metrics = match &metrics_listener {
        Some(listener) => Some(listener.local_addr()?),
        None => None,
    };

    let liveness = Liveness {
        interval: config.ping_interval,
        deadline: config.ping_timeout,
    };
    let restorer =
        ClusterRestorer::new(scheduler.clone(), access, &ids.admin, ids.pools(), liveness);
    let stats = Stats::new();
    let server = Server {
        listener,
        key: (!config.disable_tls).then_some(key),
        limits: config.limits.clone(),
        restorer: Rc::new(restorer),
        stats: stats.clone(),
        io: io.clone(),
    };
    let serving = CancellationToken::new();
    let mut served = tokio::task::spawn_local(server.run(serving.clone()));
    write_caps(&config.secrets_dir, &public, &ids)?;
    let housekeeping =
        tokio::task::spawn_local(housekeeping::run(scheduler.clone(), config.retention));
    let _exporting = config.export_every.map(|every| {
        let store = scheduler.records().store().clone();
        export::keep_exporting(store, config.state_dir.join("export"), every, space.clone())
    });
    let time_keeping = tokio::task::spawn_local(durable::keep_time(scheduler.clone()));
    if let Some(listener) = metrics_listener {
        let counters = Counters {
            net: stats,
            log: config.log_counts.clone(),
            space: space
                .clone()
                .unwrap_or_else(|| SpaceGuard::new(&config.state_dir, 0)),
        };
        tokio::task::spawn_local(http::serve(scheduler.clone(), listener, counters, io));
    }
    let _announced = status::announce(&scheduler, &shutdown);
    started(Started { listening, metrics });

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = &mut served => bail!("the server ended by itself: {ended:?}"),
        failed = reexec::store_failure(scheduler.records().store(), space.as_ref()) => Some(failed),
    };
    info!("Stopping");
    housekeeping.abort();
    time_keeping.abort();
    scheduler.begin_stopping();
    serving.cancel();
    let stopped = async {
        // Connections get their goodbye; after that nothing new comes in, and what was decided goes to disk.
        match served.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "The server ended badly"),
            Err(error) => warn!(%error, "The server crashed"),
        }
        scheduler.tasks().wait().await;
        logs.close().await;
        writer.close().await
    };
    if let Some(failed) = failed {
        // The store may never come back from what it is in, and nothing more can be written.
        let _ = tokio::time::timeout(GOODBYE, stopped).await;
        return Err(failed.into());
    }
    match tokio::time::timeout(STOP_TIMEOUT, stopped).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "The last changes may not be on disk"),
        Err(_) => warn!("Stopping took too long; the last changes may not be on disk"),
    }
    Ok(())
}

fn cluster(config: &Config, snapshot: &Snapshot) -> Cluster {
    let pools = config.pools.iter().map(|(name, policy)| PoolConfig {
        name: name.as_str().into(),
        policy: *policy,
    });
    let mut cluster = Cluster::new(ocluster_scheduling::Config {
        pools: pools.collect(),
        hint_max_age: config.retention.hint_days,
        max_running: RunningQuota {
            general: config.jobs.quota.running,
            of_client: config
                .jobs
                .client_quotas
                .iter()
                // Without a bound of its own, not even the general one holds.
                .map(|(client, quota)| (client.as_str().into(), quota.running.unwrap_or(u32::MAX)))
                .collect(),
        },
        ..ocluster_scheduling::Config::default()
    });
    records::restore(&mut cluster, snapshot);
    cluster
}

fn clients(config: &Config, snapshot: &Snapshot) -> Clients {
    let clients = Clients::default();
    for stored in &snapshot.clients {
        clients.add(&ClientId::from(stored.client.as_str()), stored.hash);
    }
    for (name, id) in config.preset_ids.iter().flat_map(|preset| &preset.clients) {
        clients.add(&ClientId::from(name.as_str()), id.hash());
    }
    clients
}

/// The secrets of the services that exist as long as the scheduler runs.
struct ServiceIds {
    admin: ServiceId,
    pools: BTreeMap<PoolName, ServiceId>,
}

impl ServiceIds {
    fn new(config: &Config, key: &SecretKey) -> Self {
        let preset = config.preset_ids.as_ref();
        let preset_pool = |name: &str| {
            let pools = preset.map_or(&[][..], |PresetIds { pools, .. }| pools);
            pools
                .iter()
                .find(|(pool, _)| pool == name)
                .map(|(_, id)| id.clone())
        };
        let pools = config.pools.iter().map(|(name, _)| {
            let id = preset_pool(name).unwrap_or_else(|| key.derived_id(&format!("pool-{name}")));
            (PoolName::from(name.as_str()), id)
        });
        Self {
            admin: preset.map_or_else(|| key.derived_id("admin"), |preset| preset.admin.clone()),
            pools: pools.collect(),
        }
    }

    fn pools(&self) -> impl Iterator<Item = (ServiceId, PoolName)> {
        self.pools
            .iter()
            .map(|(pool, id)| (id.clone(), pool.clone()))
    }
}

fn write_caps(dir: &Path, public: &Address, ids: &ServiceIds) -> anyhow::Result<()> {
    let admin = std::iter::once(("admin.cap".to_owned(), &ids.admin));
    let pools = ids
        .pools
        .iter()
        .map(|(pool, id)| (format!("pool-{pool}.cap"), id));
    for (file, id) in admin.chain(pools) {
        let path = dir.join(file);
        SturdyRef::new(public.clone(), id.clone()).save(&path)?;
        info!(target: APPLICATION, "Wrote capability reference to \"{}\"", path.display());
    }
    Ok(())
}
