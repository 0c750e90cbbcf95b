//! What the scheduler can ask of this worker, besides running jobs. Everything it does not know is answered with "unimplemented".

use std::rc::Rc;

use ocluster_api::cluster_capnp::worker;
use ocluster_vat::error as rpc_error;

use crate::agent::Agent;
use crate::{metrics, self_update};

/// The worker, as the scheduler sees it.
pub(crate) struct WorkerServer {
    agent: Rc<Agent>,
}

impl WorkerServer {
    /// Speaks for this worker.
    pub(crate) fn new(agent: Rc<Agent>) -> Self {
        Self { agent }
    }
}

impl worker::Server for WorkerServer {
    async fn metrics(
        self: Rc<Self>,
        params: worker::MetricsParams,
        results: worker::MetricsResults,
    ) -> capnp::Result<()> {
        metrics::metrics(&self.agent.collector, params, results).await
    }

    async fn additional_metric(
        self: Rc<Self>,
        params: worker::AdditionalMetricParams,
        results: worker::AdditionalMetricResults,
    ) -> capnp::Result<()> {
        metrics::additional_metric(&self.agent.collector, params, results).await
    }

    /// Never returns normally: a worker that was updated is gone.
    async fn self_update(
        self: Rc<Self>,
        _: worker::SelfUpdateParams,
        _: worker::SelfUpdateResults,
    ) -> capnp::Result<()> {
        let Err(error) = self_update::perform(self.agent.clone()).await;
        Err(rpc_error::failed(error.to_string()))
    }
}
