//! Serving a vat: arriving connections become tasks of the vat thread.

use std::rc::Rc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::accept::{Acceptor, Arrival, Stream, accept_all};
use crate::tls::{Identity, server_config};
use crate::{
    Connection, ConnectionOptions, Limits, ListenError, Listener, Restorer, SecretKey, Side, Stats,
};

/// How many arrivals may wait for the vat thread.
const ARRIVALS: usize = 64;
/// What peers read when the vat stops.
const SHUT_DOWN: &str = "Vat shut down";

/// A vat which listens and answers sturdy refs.
pub struct Server {
    /// Where.
    pub listener: Listener,
    /// The key which peers must find there. `None`: no TLS, for sturdy refs of
    /// [`crate::Digest::Insecure`].
    pub key: Option<SecretKey>,
    /// What peers may cost.
    pub limits: Limits,
    /// Finds what a sturdy ref names.
    pub restorer: Rc<dyn Restorer>,
    /// Where to count.
    pub stats: Stats,
    /// The runtime which accepts and shakes hands; it may be the vat thread's own.
    pub io: tokio::runtime::Handle,
}

impl Server {
    /// Serves until `shutdown`, on a `LocalSet` of the vat thread. At the end every peer gets an
    /// `Abort` with "Vat shut down" after all answers already given, and the listening socket is
    /// closed; dropping the future instead leaves connections open.
    ///
    /// # Errors
    /// When the key cannot be used for TLS. Trouble with single peers is logged and goes no further.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ListenError> {
        let location = self.listener.local_location().clone();
        let tls = match &self.key {
            Some(key) => {
                let identity = Identity::new(key).map_err(|source| ListenError::Key {
                    location: location.clone(),
                    source,
                })?;
                let config = server_config(&identity).map_err(|e| ListenError::Tls {
                    location: location.clone(),
                    reason: e.to_string(),
                })?;
                Some(config)
            }
            None => None,
        };
        let kind = if tls.is_some() {
            "encrypted"
        } else {
            "unencrypted"
        };
        tracing::info!(target: "capnp-rpc", "Waiting for ({kind}) connections on {location}");

        let options = ConnectionOptions {
            side: Side::Accepted,
            limits: self.limits.clone(),
            stats: self.stats,
            restorer: Some(self.restorer),
        };
        let (sender, mut arrivals) = mpsc::channel(ARRIVALS);
        let stop_accepting = shutdown.child_token();
        let _stop_when_dropped = stop_accepting.clone().drop_guard();
        let acceptor = Acceptor {
            tls,
            limits: self.limits,
            arrivals: sender,
            shutdown: stop_accepting,
        };
        let accepting = self.io.spawn(accept_all(self.listener.socket, acceptor));

        let mut connections = Connections::default();
        loop {
            let arrival = tokio::select! {
                () = shutdown.cancelled() => break,
                arrival = arrivals.recv() => arrival,
            };
            let Some(arrival) = arrival else { break };
            connections.add(arrival, &options);
        }
        // Only to have the listening socket closed before we return; a panic was reported already.
        let _ = accepting.await;
        connections.close().await;
        Ok(())
    }
}

/// The connections which are still to be told when the vat stops.
#[derive(Default)]
struct Connections {
    open: Vec<Connection>,
    sweep_at: usize,
}

impl Connections {
    fn add(&mut self, arrival: Arrival, options: &ConnectionOptions) {
        const FEW: usize = 64;
        let Some(connection) = start(arrival, options.clone()) else {
            return;
        };
        if self.open.len() >= self.sweep_at {
            self.open.retain(|connection| !connection.is_closed());
            self.sweep_at = (self.open.len() * 2).max(FEW);
        }
        self.open.push(connection);
    }

    async fn close(self) {
        for connection in &self.open {
            connection.disconnect(SHUT_DOWN);
        }
        for connection in &self.open {
            connection.closed().await;
        }
    }
}

fn start(arrival: Arrival, options: ConnectionOptions) -> Option<Connection> {
    let Arrival {
        stream,
        peer,
        permit,
    } = arrival;
    let attached = match stream {
        Stream::Plain(mut socket) => socket
            .attach()
            .map(|()| Connection::start(socket, peer.clone(), options, Some(permit))),
        Stream::Tls(mut tls) => tls
            .get_mut()
            .0
            .attach()
            .map(|()| Connection::start(tls, peer.clone(), options, Some(permit))),
    };
    match attached {
        Ok(connection) => Some(connection),
        Err(e) => {
            tracing::warn!(%peer, error = %e, "Rejecting new connection");
            None
        }
    }
}
