//! What a worker stands on when that is not the machine: its network, the speed of its spool's disk, and no threads for jobs. A
//! simulation brings these, in which one seed gives one history.
//!
//! It must change nothing of what the worker does: no code above asks what it runs on.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ocluster_joblog::{LogConfig, LogStore, OpenError, Pace};
use ocluster_vat::{Stats, Transport, Vat};
use tokio::runtime::{Handle, Runtime};

use crate::agent::Config;

/// What a worker stands on in place of the machine. Jobs then run on the worker's own thread, so that they must not block it.
#[derive(Clone)]
pub struct Surroundings {
    /// How it reaches the scheduler.
    pub network: Arc<dyn Transport>,
    /// How long each write to the disk of the spool takes.
    pub spool_pace: Pace,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// The vat that dials the scheduler.
pub(crate) fn vat(config: &Config, stats: Stats) -> Vat {
    match &config.surroundings {
        None => Vat::client_only(stats),
        Some(given) => Vat::over(given.network.clone(), stats),
    }
}

/// Opens the logs of running jobs.
pub(crate) fn open_spool(
    config: &Config,
    dir: &Path,
    log_config: LogConfig,
) -> Result<LogStore, OpenError> {
    match &config.surroundings {
        None => LogStore::open(dir, log_config),
        Some(given) => LogStore::open_threadless(dir, log_config, given.spool_pace.clone()),
    }
}

/// The threads on which jobs run.
pub(crate) enum JobThreads {
    Own(Runtime),
    /// None: jobs run where the worker itself does.
    Here(Handle),
}

impl JobThreads {
    /// Starts them, if there are to be any.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(crate) fn start(config: &Config) -> std::io::Result<Self> {
        if config.surroundings.is_some() {
            return Ok(Self::Here(Handle::current()));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("job")
            .enable_all()
            .build()?;
        Ok(Self::Own(runtime))
    }

    /// Where to start a job.
    pub(crate) fn handle(&self) -> &Handle {
        match self {
            Self::Own(runtime) => runtime.handle(),
            Self::Here(handle) => handle,
        }
    }

    /// Runs something there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle().spawn(work)
    }

    /// Lets the threads end by themselves.
    pub(crate) fn shutdown_background(self) {
        if let Self::Own(runtime) = self {
            runtime.shutdown_background();
        }
    }
}
