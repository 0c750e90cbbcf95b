//! What Prometheus and load balancers see: `/metrics` and `/health`, over plain HTTP.
//!
//! Requests are served on the pool of ordinary threads; the vat thread is only asked for a picture of its state. There is no
//! authentication, so nothing here may show more than numbers and names.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use ocluster_store::StoreHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::metrics::{self, Counters, Picture};
use crate::state::Scheduler;

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the vat thread may take to answer before the scheduler counts as sick.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections served at once; more wait.
const MAX_CONNECTIONS: usize = 64;

/// The way to the vat thread: whoever sends here gets a picture.
type Studio = mpsc::Sender<oneshot::Sender<Picture>>;

struct Service {
    studio: Studio,
    counters: Counters,
    store: StoreHandle,
}

/// Binds the address to listen on.
///
/// # Errors
/// As the operating system says, with the address.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on {address} for Prometheus: {error}; choose another --listen-prometheus"
        )
    })
}

/// Serves until dropped. Runs on the vat thread only to take pictures; the rest runs on `io`.
pub(crate) async fn serve(
    scheduler: Rc<Scheduler>,
    listener: TcpListener,
    counters: Counters,
    io: tokio::runtime::Handle,
) {
    let (studio, mut requests) = mpsc::channel::<oneshot::Sender<Picture>>(MAX_CONNECTIONS);
    let service = Arc::new(Service {
        studio,
        counters,
        store: scheduler.records().store().clone(),
    });
    let accepting = io.spawn(accept(listener, service));
    let _abort = AbortOnDrop(accepting.abort_handle());
    while let Some(wanted) = requests.recv().await {
        // Whoever asked may have given up.
        let _ = wanted.send(Picture::take(&scheduler));
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    match listener.local_addr() {
        Ok(address) => info!("Serving metrics on http://{address}/metrics"),
        Err(error) => warn!(%error, "Cannot tell where metrics are served"),
    }
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so that there is always a place in the end.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    serve_connection(stream, service).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "Cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, service: Arc<Service>) {
    let handler = service_fn(|request| {
        let service = service.clone();
        async move {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, service.answer(request)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| {
                text(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Error: the request took too long\n",
                )
            }))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
    if let Err(error) = served {
        debug!(%error, "An HTTP connection failed");
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path: Vec<&str> = request
            .uri()
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        match (request.method(), &path[..]) {
            (&Method::GET, ["metrics"]) => self.metrics().await,
            (&Method::GET, ["health"]) => self.health().await,
            _ => text(StatusCode::BAD_REQUEST, "Error: Bad request"),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let Some(picture) = self.picture().await else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "Error: the scheduler does not answer\n",
            );
        };
        match metrics::render(&picture, &self.counters) {
            Ok(page) => {
                let mut response = text(StatusCode::OK, &page);
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static("text/plain; version=0.0.4"),
                );
                response
            }
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
        match self.picture().await {
            Some(_) => text(StatusCode::OK, "ok\n"),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the scheduler does not answer\n",
            ),
        }
    }

    async fn picture(&self) -> Option<Picture> {
        let (wanted, picture) = oneshot::channel();
        let asked = async {
            self.studio.send(wanted).await.ok()?;
            picture.await.ok()
        };
        tokio::time::timeout(PICTURE_TIMEOUT, asked).await.ok()?
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
