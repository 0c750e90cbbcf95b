//! What the scheduler can ask of this worker, besides running jobs. Everything it does not know is answered with "unimplemented".

use ocluster_api::cluster_capnp::worker;

/// The worker, as the scheduler sees it.
pub(crate) struct WorkerServer;

impl worker::Server for WorkerServer {}
