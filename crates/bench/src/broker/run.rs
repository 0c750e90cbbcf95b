//! Starting the broker: its key, its capability files, and its vat.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use clap::Args;
use ocluster_vat::{
    Address, Limits, Listener, Location, SecretKey, Server, ServiceId, Stats, SturdyRef,
};
use tokio_util::sync::CancellationToken;

use super::rpc::{Pools, Service, Services};

/// As many calls may a peer have begun and not finished as with the scheduler.
const MAX_CALLS: usize = 100_000;

/// Where to listen and what to serve, as the scheduler's options say it.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// The key file. It is made if it is not there.
    #[arg(long, value_name = "FILE")]
    capnp_secret_key_file: PathBuf,

    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    capnp_listen_address: Location,

    /// Directory for the capability files.
    #[arg(long, value_name = "DIR")]
    secrets_dir: PathBuf,

    /// The pools' names.
    #[arg(long, value_name = "ID,...", value_delimiter = ',', required = true)]
    pools: Vec<String>,

    /// The clients' names.
    #[arg(long, value_name = "ID,...", value_delimiter = ',', required = true)]
    default_clients: Vec<String>,
}

impl BrokerArgs {
    /// Serves until it is dropped. The capability files are written once it listens, those of pools last.
    ///
    /// # Errors
    /// If it cannot listen, or cannot write its files.
    pub async fn run(&self) -> anyhow::Result<()> {
        ocluster_cli::raise_file_limit();
        let (key, _) = SecretKey::load_or_create(&self.capnp_secret_key_file)?;
        let listener = Listener::bind(&self.capnp_listen_address)?;
        let address = Address::new(listener.local_location().clone(), key.digest());
        let pools: Pools = self
            .pools
            .iter()
            .map(|name| (name.clone(), Rc::default()))
            .collect();
        let pools = Rc::new(pools);
        let mut services = HashMap::new();
        let mut files = Vec::new();
        for name in &self.default_clients {
            let id = key.derived_id(&format!("client-{name}"));
            services.insert(id.hash(), Service::Submission(pools.clone()));
            files.push((format!("submit-{name}.cap"), id));
        }
        for (name, hub) in pools.iter() {
            let id = key.derived_id(&format!("pool-{name}"));
            services.insert(id.hash(), Service::Registration(hub.clone()));
            files.push((format!("pool-{name}.cap"), id));
        }
        // Handshakes happen where the scheduler has them happen: beside the vat thread.
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start threads")?;
        let server = Server {
            listener,
            key: Some(key),
            limits: Limits {
                max_calls_in_flight: MAX_CALLS,
                ..Limits::default()
            },
            restorer: Rc::new(Services(services)),
            stats: Stats::new(),
            io: io.handle().clone(),
        };
        for (file, id) in files {
            self.save(&address, id, &file)?;
        }
        let served = server.run(CancellationToken::new()).await;
        io.shutdown_background();
        Ok(served?)
    }

    fn save(&self, address: &Address, id: ServiceId, file: &str) -> anyhow::Result<()> {
        SturdyRef::new(address.clone(), id).save(&self.secrets_dir.join(file))?;
        Ok(())
    }
}
