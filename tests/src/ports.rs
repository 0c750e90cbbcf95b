//! Free TCP ports.

use std::net::TcpListener;
use std::ops::Range;

use anyhow::{Result, bail};

/// Below the ports that systems give to outgoing connections: one of those must not have taken a program's port while it was killed
/// and is to be started again.
const PORTS: Range<u16> = 10_000..32_000;

/// How many are tried.
const TRIES: u32 = 1000;

/// A port that nobody listened on a moment ago, on any address.
///
/// It is taken at random, so that another process gets the same one within the next moment only by a chance of one in tens of
/// thousands.
///
/// # Errors
///
/// When none is found.
pub fn free_port() -> Result<u16> {
    for _ in 0..TRIES {
        let port = rand::random_range(PORTS);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("found no free port from {} on", PORTS.start)
}
