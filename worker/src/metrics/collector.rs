//! Makes or fetches the pages that the scheduler asks for, on the pool of ordinary threads. However often it is asked, only a few
//! pages are in the making at once.

use std::sync::Arc;

use ocluster_vat::Stats;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::counts::Metrics;
use super::exporter::{self, Limits, Page};
use super::exporter_url::ExporterUrl;
use super::page;
use super::sources::Sources;

/// Pages in the making at once; more wait. Each may take a few tens of megabytes.
const AT_ONCE: usize = 8;

/// What the node exporter is called in errors, which is what OCluster calls it.
const NODE_EXPORTER: &str = "prometheus-node-exporter";

/// Knows where each page comes from.
pub(crate) struct Collector {
    metrics: Metrics,
    net: Stats,
    sources: Sources,
    pool: tokio::runtime::Handle,
    places: Arc<Semaphore>,
}

impl Collector {
    /// One that works on `pool`.
    pub(crate) fn new(
        metrics: Metrics,
        net: Stats,
        sources: Sources,
        pool: tokio::runtime::Handle,
    ) -> Self {
        Self {
            metrics,
            net,
            sources,
            pool,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The worker's own page.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn agent(&self) -> Result<Page, String> {
        let (metrics, net) = (self.metrics.clone(), self.net.clone());
        let logged = self.sources.log_counts.clone();
        self.work(async move {
            let data = page::render(&metrics, &net, &logged)
                .map_err(|error| format!("cannot make the worker's metrics: {error}"))?;
            let content_type = page::CONTENT_TYPE.to_owned();
            Ok(Page { content_type, data })
        })
        .await
    }

    /// The machine's page.
    ///
    /// # Errors
    /// One sentence, OCluster's up to the details.
    pub(super) async fn host(&self) -> Result<Page, String> {
        let url = self.sources.node_exporter.clone();
        self.fetch(url, NODE_EXPORTER.to_owned()).await
    }

    /// An additional page, if there is one of this name.
    ///
    /// # Errors
    /// As [`Collector::host`], with the page's name.
    pub(super) async fn additional(&self, name: &str) -> Result<Option<Page>, String> {
        match self.sources.additional.get(name) {
            Some(url) => Ok(Some(self.fetch(url.clone(), name.to_owned()).await?)),
            None => Ok(None),
        }
    }

    async fn fetch(&self, url: ExporterUrl, what: String) -> Result<Page, String> {
        let places = self.places.clone();
        self.work(async move {
            // Never closed, so that there is always a place in the end.
            let _place = places.acquire_owned().await;
            let page = exporter::fetch(&url, &what, Limits::default()).await;
            page.map_err(|error| error.to_string())
        })
        .await
    }

    /// Works on the pool. When this is dropped, the work ends.
    async fn work(
        &self,
        work: impl Future<Output = Result<Page, String>> + Send + 'static,
    ) -> Result<Page, String> {
        match AbortOnDropHandle::new(self.pool.spawn(work)).await {
            Ok(page) => page,
            Err(_) => Err("Internal error: collecting metrics crashed".to_owned()),
        }
    }
}
