//! Free TCP ports on loopback.

use std::net::TcpListener;

use anyhow::Result;

/// A port that nobody listened on a moment ago.
///
/// The kernel hands such ports out in random order, so that another process gets the same one within the next moment only by a
/// chance of one in tens of thousands.
///
/// # Errors
///
/// When there is none left.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
