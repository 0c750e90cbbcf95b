//! Noticing in seconds that a peer is dead or stands still, without the peer's help.
//!
//! Every vat answers a call it does not know, so a ping is a call to an interface nobody has. TCP
//! itself notices a dead peer within minutes, and a stopped process never.

use std::time::Duration;

use capnp::any_pointer;
use capnp::capability::Client;
use tokio::time::Instant;

use crate::{CloseReason, Connection, RpcError};

/// An interface which no schema has: made up, with the high bit that every real id has too.
const PING_INTERFACE: u64 = 0xf1a9_70cb_4d21_8e63;

/// Calls a method that no object has. Any answer will do, "unimplemented" above all: it shows that
/// the peer is alive.
///
/// # Errors
/// [`RpcError::Disconnected`] when the connection is lost.
pub async fn ping(object: &Client) -> Result<(), RpcError> {
    let request =
        object.new_call::<any_pointer::Owned, any_pointer::Owned>(PING_INTERFACE, 0, None);
    match request.send().promise.await {
        Ok(_) => Ok(()),
        Err(e) => match RpcError::from(e) {
            lost @ RpcError::Disconnected(_) => Err(lost),
            _ => Ok(()),
        },
    }
}

/// Watches over a connection until it ends. When nothing has come from the peer for `interval`, it
/// pings `object`, which must be hosted by the peer; when nothing has come for `deadline`, it closes
/// the connection with a reason that says so.
///
/// Any byte counts as life, so a busy connection is never pinged. Dropping the future ends the
/// watch, not the connection.
pub async fn watch(
    connection: &Connection,
    object: &Client,
    interval: Duration,
    deadline: Duration,
) -> CloseReason {
    tokio::select! {
        reason = connection.closed() => reason,
        () = wait_for_silence(connection, object, interval, deadline) => {
            let seconds = deadline.as_secs_f64();
            connection.disconnect(&format!("No answer from the peer for {seconds} s"));
            connection.closed().await
        }
    }
}

/// Returns when nothing has come for `deadline`, nor since the peer was asked.
async fn wait_for_silence(
    connection: &Connection,
    object: &Client,
    interval: Duration,
    deadline: Duration,
) {
    // Part of the time is kept for a last look: had this process itself stood still, the answer
    // would wait in the socket, unread.
    let last_look = deadline.saturating_sub(interval) / 10;
    let least_patience = deadline.saturating_sub(interval) / 2;
    loop {
        let silence = connection.last_received();
        if silence < interval {
            tokio::time::sleep(interval - silence).await;
            continue;
        }
        let asked = Instant::now();
        let patience = deadline
            .saturating_sub(silence + last_look)
            .max(least_patience);
        let heard = || connection.last_received() <= asked.elapsed();
        // What counts is the byte that comes, not the answer, which an object that is not the
        // peer's own may give without any.
        let _ = tokio::time::timeout(patience, ping(object)).await;
        if heard() {
            continue;
        }
        tokio::time::sleep_until(asked + patience + last_look).await;
        if !heard() {
            return;
        }
    }
}
