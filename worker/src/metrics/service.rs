//! `Worker.metrics` and `Worker.additionalMetric`: what is said on the wire about pages.

use ocluster_api::cluster_capnp::{metric, worker};
use ocluster_vat::error as rpc_error;

use super::collector::Collector;
use super::exporter::Page;

/// Answers `Worker.metrics`.
///
/// # Errors
/// The collector's, or that the source is unknown, in OCluster's words.
pub(crate) async fn metrics(
    collector: &Collector,
    params: worker::MetricsParams,
    mut results: worker::MetricsResults,
) -> capnp::Result<()> {
    let source = params.get()?.get_source();
    let page = match source {
        Ok(worker::MetricsSource::Agent) => collector.agent().await,
        Ok(worker::MetricsSource::Host) => collector.host().await,
        Err(_) => Err("Unknown metrics source".to_owned()),
    };
    let page = page.map_err(rpc_error::failed)?;
    let mut results = results.get();
    results.set_content_type(&page.content_type);
    results.set_data(&page.data);
    Ok(())
}

/// Answers `Worker.additionalMetric`. A name that is not configured is no error.
///
/// # Errors
/// The collector's.
pub(crate) async fn additional_metric(
    collector: &Collector,
    params: worker::AdditionalMetricParams,
    mut results: worker::AdditionalMetricResults,
) -> capnp::Result<()> {
    let name = params.get()?.get_source()?.to_str()?;
    let page = collector
        .additional(name)
        .await
        .map_err(rpc_error::failed)?;
    let mut answer = results.get().init_metric();
    match page {
        Some(page) => fill(answer.init_metric(), &page),
        None => answer.set_not_reported(()),
    }
    Ok(())
}

fn fill(mut metric: metric::Builder<'_>, page: &Page) {
    metric.set_content_type(&page.content_type);
    metric.set_data(&page.data);
}
