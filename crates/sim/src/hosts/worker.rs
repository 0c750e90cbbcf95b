//! A worker on its host: the real one, on simulated network and disks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ocluster_worker::{Config, Executors, Surroundings};
use tokio_util::sync::CancellationToken;

use super::Site;
use crate::disk::Speed;
use crate::history::History;
use crate::network::SimNetwork;
use crate::plan::PlannedWorker;
use crate::work::{KIND, SimExecutor};

/// A worker's host, over all its lives.
#[derive(Clone)]
pub struct WorkerHost {
    /// The cluster.
    pub site: Site,
    /// What it is.
    pub plan: PlannedWorker,
    /// The speed of its disk.
    pub speed: Speed,
    /// Where its jobs are noted.
    pub history: History,
    /// Ends the present life in peace.
    pub stop: Rc<RefCell<CancellationToken>>,
}

impl WorkerHost {
    /// One life.
    ///
    /// # Errors
    /// Whatever keeps the worker from starting.
    pub async fn live(self) -> turmoil::Result {
        let stop = CancellationToken::new();
        *self.stop.borrow_mut() = stop.clone();
        let name = &self.plan.name;
        let executor = SimExecutor {
            worker: name.clone(),
            history: self.history.clone(),
        };
        let state_dir = self.site.dir.join(name);
        let config = Config {
            capacity: self.plan.capacity,
            executors: Executors::default().offering(KIND, executor),
            surroundings: Some(Surroundings {
                network: Arc::new(SimNetwork),
                spool_pace: self.speed.pace(),
            }),
            ..Config::new(Site::cap(Site::pool_id()), name, state_dir)
        };
        ocluster_worker::run(config, stop).await?;
        Ok(())
    }
}
