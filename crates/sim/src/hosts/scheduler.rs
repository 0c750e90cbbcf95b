//! The scheduler on its host: the real one, on simulated network, clock and disks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ocluster_cli::LogCounts;
use ocluster_scheduler::config::{JobPolicy, PresetIds, Retention};
use ocluster_scheduler::{Config, Surroundings};
use ocluster_scheduling::Policy;
use ocluster_store::{Writer, WriterConfig};
use ocluster_vat::Limits;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::site::POOL;
use crate::clock::SimClock;
use crate::disk::{Platter, Speed};
use crate::network::SimNetwork;

/// The scheduler's host, over all its lives.
#[derive(Clone)]
pub struct SchedulerHost {
    /// The cluster.
    pub site: Site,
    /// The clients it knows.
    pub clients: Vec<String>,
    /// What it goes by.
    pub clock: SimClock,
    /// Where its store is.
    pub platter: Rc<RefCell<Platter>>,
    /// The speed of its disks.
    pub speed: Speed,
    /// Ends the present life in peace.
    pub stop: Rc<RefCell<CancellationToken>>,
}

impl SchedulerHost {
    /// One life.
    ///
    /// # Errors
    /// Whatever keeps the scheduler from starting.
    pub async fn live(self) -> turmoil::Result {
        let stop = CancellationToken::new();
        *self.stop.borrow_mut() = stop.clone();
        let flushes = self.speed.pace();
        let surroundings = Surroundings {
            network: Arc::new(SimNetwork),
            clock: Box::new(self.clock.clone()),
            store: Box::new(self.platter.borrow_mut().attach()),
            writer: Box::new(move |store| Writer::as_task(store, WriterConfig::default(), flushes)),
            log_pace: self.speed.pace(),
        };
        let config = self.config();
        ocluster_scheduler::run_in(surroundings, config, stop, |_| {}).await?;
        Ok(())
    }

    fn config(&self) -> Config {
        let clients = self.clients.iter();
        Config {
            key_file: Some(self.site.dir.join("key.pem")),
            listen: Site::listen(),
            public: Some(Site::public()),
            disable_tls: true,
            secrets_dir: self.site.dir.join("secrets"),
            state_dir: self.site.dir.join("scheduler"),
            pools: vec![(POOL.to_owned(), Policy::default())],
            default_clients: vec![],
            listen_prometheus: None,
            limits: Limits::default(),
            ping_interval: Duration::from_secs(4),
            ping_timeout: Duration::from_secs(12),
            update_timeout: Duration::from_secs(600),
            max_log_bytes: 0,
            max_queued_bytes: usize::MAX,
            jobs: JobPolicy::default(),
            min_free_bytes: 0,
            export_every: None,
            retention: Retention {
                log_age: None,
                log_bytes: None,
                jobs: usize::MAX,
                job_age: Duration::from_secs(365 * 86_400),
                hint_days: None,
            },
            log_counts: LogCounts::new(),
            preset_ids: Some(PresetIds {
                admin: Site::admin_id(),
                pools: vec![(POOL.to_owned(), Site::pool_id())],
                clients: clients
                    .map(|name| (name.clone(), Site::client_id(name)))
                    .collect(),
            }),
        }
    }
}
