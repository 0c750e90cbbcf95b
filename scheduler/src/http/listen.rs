//! Accepts HTTP connections, a bounded number at a time, and ends those that take too long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::desk::desk;
use super::server::{Server, text};
use crate::metrics::Counters;
use crate::state::Scheduler;

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to make an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection, which is for one request, may live. One that does not read its answer must not keep it for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(90);
/// Connections served at once; more wait.
const MAX_CONNECTIONS: usize = 256;

/// Binds the address to listen on. Connections are accepted by the threads of `io`, so that `/health` tells of a stuck vat thread.
///
/// # Errors
/// As the operating system says, with the address.
pub(crate) async fn bind(
    address: SocketAddr,
    io: &tokio::runtime::Handle,
) -> anyhow::Result<TcpListener> {
    // The runtime that makes a socket is the one that watches it.
    let bound = io.spawn(TcpListener::bind(address)).await?;
    bound.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on {address} for Prometheus: {error}; choose another --listen-prometheus"
        )
    })
}

/// Serves until dropped. Runs on the vat thread only to answer what the desk is asked; the rest runs on `io`.
pub(crate) async fn serve(
    scheduler: Rc<Scheduler>,
    listener: TcpListener,
    counters: Counters,
    io: tokio::runtime::Handle,
) {
    let (desk, questions) = desk();
    let store = scheduler.records().store().clone();
    let server = Arc::new(Server::new(desk, counters, store));
    let _accepting = AbortOnDropHandle::new(io.spawn(accept(listener, server)));
    questions.answer(scheduler).await;
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
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
                let server = server.clone();
                tokio::spawn(async move {
                    let served = serve_connection(stream, server);
                    if tokio::time::timeout(CONNECTION_TIMEOUT, served)
                        .await
                        .is_err()
                    {
                        debug!("An HTTP connection took too long");
                    }
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

async fn serve_connection(stream: TcpStream, server: Arc<Server>) {
    let handler = service_fn(|request| {
        let server = server.clone();
        async move {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, server.answer(request)).await;
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
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
    if let Err(error) = served {
        debug!(%error, "An HTTP connection failed");
    }
}
