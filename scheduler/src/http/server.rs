//! What each request is answered with: statuses and words are OCluster's.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ocluster_store::StoreHandle;
use tracing::warn;

use super::desk::Desk;
use super::route::{Route, Segment, WorkerPage};
use super::targets;
use super::worker_page::PageError;
use crate::metrics::{self, Counters};

/// The content type of the scheduler's own metrics.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// Answers requests.
pub(super) struct Server {
    desk: Desk,
    counters: Counters,
    store: StoreHandle,
}

impl Server {
    pub(super) fn new(desk: Desk, counters: Counters, store: StoreHandle) -> Self {
        Self {
            desk,
            counters,
            store,
        }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let route = match *request.method() {
            Method::GET => Route::of(request.uri().path()),
            _ => None,
        };
        match route {
            Some(Route::Metrics) => self.metrics().await,
            Some(Route::Health) => self.health().await,
            Some(Route::Targets) => self.targets(request.headers().get(HOST)).await,
            Some(Route::Worker { pool, worker, page }) => {
                self.worker_page(pool, worker, page).await
            }
            None => text(StatusCode::BAD_REQUEST, "Error: Bad request"),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let Some(picture) = self.desk.picture().await else {
            return silent();
        };
        let store_works = self.store.health().borrow().is_ok();
        match metrics::render(&picture, store_works, &self.counters) {
            Ok(page) => content(HeaderValue::from_static(METRICS_TYPE), page.into()),
            Err(error) => {
                warn!(%error, "Cannot make the metrics page");
                text(StatusCode::INTERNAL_SERVER_ERROR, "Error: Internal error\n")
            }
        }
    }

    async fn health(&self) -> Response<Full<Bytes>> {
        if let Err(error) = &*self.store.health().borrow() {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the store has failed: {error}\n"),
            );
        }
        match self.desk.picture().await {
            Some(_) => text(StatusCode::OK, "ok\n"),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the scheduler does not answer\n",
            ),
        }
    }

    async fn targets(&self, host: Option<&HeaderValue>) -> Response<Full<Bytes>> {
        let Some(host) = host.and_then(|host| host.to_str().ok()) else {
            return text(StatusCode::BAD_REQUEST, "Error: Bad request");
        };
        match self.desk.workers().await {
            Some(workers) => content(
                HeaderValue::from_static("application/json"),
                targets::list(host, &workers).into(),
            ),
            None => silent(),
        }
    }

    async fn worker_page(
        &self,
        pool: Segment,
        worker: Segment,
        page: WorkerPage,
    ) -> Response<Full<Bytes>> {
        let (status, words) = match self.desk.worker_page(pool, worker, page).await {
            Ok(page) => match HeaderValue::from_bytes(&page.content_type) {
                Ok(kind) => return foreign(kind, Bytes::from_owner(page.data)),
                Err(_) => {
                    warn!("A worker gave its metrics a content type that no header can have");
                    failed()
                }
            },
            Err(PageError::NoSuchPool) => (StatusCode::BAD_REQUEST, "Error: No such pool"),
            Err(PageError::NotConnected) => {
                (StatusCode::BAD_REQUEST, "Error: Worker not connected")
            }
            Err(PageError::NotReported) => (StatusCode::NOT_FOUND, "Not found"),
            Err(PageError::Failed(_)) => failed(),
        };
        text(status, words)
    }
}

fn silent() -> Response<Full<Bytes>> {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "Error: the scheduler does not answer\n",
    )
}

fn failed() -> (StatusCode, &'static str) {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "Error: Worker metrics collection failed",
    )
}

fn content(kind: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What a worker gave, which a browser is not to trust: it may say that it is a page with scripts.
fn foreign(kind: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = content(kind, body);
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, policy);
    response
}

/// An answer for people.
pub(super) fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = content(kind, Bytes::copy_from_slice(body.as_bytes()));
    *response.status_mut() = status;
    response
}
