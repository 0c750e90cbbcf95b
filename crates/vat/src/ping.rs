//! ping
use crate::{CloseReason, Connection, RpcError};
use capnp::capability::Client;
use std::time::Duration;
/// Calls a method that no object has; any answer will do.
pub async fn ping(_object: &Client) -> Result<(), RpcError> {
    todo!()
}
/// Watches: pings `object` when nothing came from the peer for `interval`; closes the connection when
/// nothing came for `deadline`. Returns when the connection is closed.
pub async fn watch(
    _connection: &Connection,
    _object: &Client,
    _interval: Duration,
    _deadline: Duration,
) -> CloseReason {
    todo!()
}
