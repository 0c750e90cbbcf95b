//! Ctrl-C and SIGTERM become an ordinary error, so that every guard's clean-up runs on the way out.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT and SIGTERM make waits fail instead of ending the process.
///
/// # Errors
///
/// When the system refuses the signal handlers.
pub fn watch_interrupts() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    signal_hook::flag::register(SIGINT, Arc::clone(flag))?;
    signal_hook::flag::register(SIGTERM, Arc::clone(flag))?;
    Ok(())
}

/// Fails once the user has asked to stop.
///
/// # Errors
///
/// When SIGINT or SIGTERM came since [`watch_interrupts`].
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
    {
        bail!("interrupted");
    }
    Ok(())
}
